"""A ranker of lists on job titles: items as embedding tokens and a query in one prompt."""
