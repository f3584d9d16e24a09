"""What reads the files of deploy/ for their tests."""
