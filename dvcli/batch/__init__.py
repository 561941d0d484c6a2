"""Many clips and prompts in one go: what is to be made, who makes it, in what order."""
