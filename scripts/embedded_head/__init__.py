"""Steps of `scripts/build_embedded_head.py`: from the MakeHuman files to the arrays of the embedded head."""
