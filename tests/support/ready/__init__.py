"""What tests of cleaning and of idioms share."""
