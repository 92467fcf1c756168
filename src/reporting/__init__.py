"""How cards, pages and studies write numbers and tables."""
