"""Parameters as plain trees, and checkpoints of them: what training and Hugging Face folders both stand on."""
