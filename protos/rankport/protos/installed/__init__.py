"""Facts of what is installed here: versions of packages, and extras, whose absence is told with what installs them."""
