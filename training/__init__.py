"""Training: pairs -> members -> bundle. The only room with torch."""
