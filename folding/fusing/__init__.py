"""Write an idiom, which folding leaves whole, as the one operator that it is."""
