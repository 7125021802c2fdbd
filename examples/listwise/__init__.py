"""A ranker of lists on job titles: items and query in one prompt."""
