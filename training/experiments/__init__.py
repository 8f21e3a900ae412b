"""Small experiments that answer one question each; every function gives the rows of a table."""
