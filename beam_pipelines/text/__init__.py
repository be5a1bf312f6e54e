"""Pure functions of text: words, sentences, repeated n-grams."""
