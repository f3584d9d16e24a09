"""What tests of PyTorch modules share."""
