"""Near-duplicate removal: MinHash-LSH proposes pairs, exact similarity decides, and every removed row has a witness."""
