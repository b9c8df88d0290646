"""Mining of pairs from documents, as hard as the pairs that the model is evaluated on."""
