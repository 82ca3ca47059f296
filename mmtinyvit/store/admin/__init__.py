"""What is done to whole stores: putting them together, checking and mending them, and looking into them."""
