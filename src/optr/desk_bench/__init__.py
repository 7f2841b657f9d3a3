"""Tasks on desktops, with seeds, checkers and oracles."""
