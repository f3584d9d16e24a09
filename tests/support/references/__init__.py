"""Every operator in NumPy, as its specification says: what models are evaluated by."""
