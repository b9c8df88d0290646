"""Training: pairs -> members -> bundle. The only package with torch."""
