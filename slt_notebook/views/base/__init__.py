"""What all views share: the widget border, linking, fallbacks."""
