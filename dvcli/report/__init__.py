"""What is made for eyes: contact sheets and the page on which clips play side by side."""
