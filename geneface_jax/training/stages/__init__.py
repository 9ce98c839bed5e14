"""The training stages: one file for each network, or for a network and its super-resolution variant."""
