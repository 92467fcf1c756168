"""Study: every detector, trained and judged the same way."""
