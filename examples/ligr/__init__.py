"""Next movies of a user, ranked as a set: LiGR on MovieTweetings."""
