"""`python -m synthoma` is the command line."""

from synthoma.cli import main

if __name__ == "__main__":
    main()
