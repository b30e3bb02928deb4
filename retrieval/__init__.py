"""From files to pages to vectors, and back to the place on the page."""
