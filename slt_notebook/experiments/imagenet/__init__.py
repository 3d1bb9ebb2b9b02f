"""The loss kernel of an ImageNet classifier against WordNet (2509.26537)."""
