"""Episodes of a desktop: written, read, shown, and done again."""
