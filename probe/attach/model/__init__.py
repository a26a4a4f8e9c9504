"""What differs between models: the table of families, and what is inferred where the table is silent."""
