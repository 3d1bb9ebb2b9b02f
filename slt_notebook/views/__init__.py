"""What does a person see of a run?  numpy, xarray, altair and anywidget in; pixels out."""
