"""What a run or a mask shows: numbers, pictures, pages."""
