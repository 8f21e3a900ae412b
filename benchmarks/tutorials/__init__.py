"""Models and loops as tutorials write them, to be measured against."""
