"""Mining: documents -> pairs as hard as the pairs the model is judged on."""
