"""Table 1, the claims, and what only notebook 7 draws. Nothing is computed from images here."""
