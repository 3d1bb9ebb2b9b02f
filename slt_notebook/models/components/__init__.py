"""Components of a model: names, coordinates, and cheaper evaluation of one of them."""
