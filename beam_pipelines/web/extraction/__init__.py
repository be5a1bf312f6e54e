"""From HTML to a page's main text."""
