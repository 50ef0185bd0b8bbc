"""What messages say: templates by version and locale, and their rendering, which can neither hang nor leak."""
