"""Personal data in text: one file per kind, `anonymise.AnonymisePii` replaces them by placeholders."""
