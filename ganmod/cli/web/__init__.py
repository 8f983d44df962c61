"""`ganmod web`: the page that stylises in the visitor's browser."""
