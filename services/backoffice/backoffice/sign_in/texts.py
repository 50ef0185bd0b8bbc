"""The words of `refusal_page`, by language: a title and a text for each reason."""

Texts = dict[str, tuple[str, str]]

TEXTS: dict[str, Texts] = {
    "en": {
        "again": ("Sign in again", "To the menu"),
        "declined": ("You did not sign in", "Nothing has changed. You can still look at the menu."),
        "wrong-state": (
            "This sign-in is over",
            "It was finished before, took longer than ten minutes, or was begun in another browser.",
        ),
        "unavailable": (
            "Signing in does not work at the moment",
            "The service that knows who you are does not answer. Please try again in a minute.",
        ),
        "unusable": (
            "Signing in is not set up right",
            (
                "The service that knows who you are answered, but not in a way that can be used here. Whoever runs "
                "this shop finds the reason in the log."
            ),
        ),
        "foreign": (
            "That address is not one of ours",
            "You would have been sent away from this site after signing in.",
        ),
    },
    "de": {
        "again": ("Noch einmal anmelden", "Zur Karte"),
        "declined": ("Sie haben sich nicht angemeldet", "Es hat sich nichts geändert. Die Karte sehen Sie weiterhin."),
        "wrong-state": (
            "Diese Anmeldung ist vorbei",
            "Sie war schon abgeschlossen, hat länger als zehn Minuten gedauert oder begann in einem anderen Browser.",
        ),
        "unavailable": (
            "Die Anmeldung geht gerade nicht",
            "Der Dienst, der weiß, wer Sie sind, antwortet nicht. Bitte versuchen Sie es in einer Minute noch einmal.",
        ),
        "unusable": (
            "Die Anmeldung ist nicht richtig eingerichtet",
            (
                "Der Dienst, der weiß, wer Sie sind, hat geantwortet, aber nicht so, dass es hier zu gebrauchen wäre. "
                "Wer dieses Geschäft betreibt, findet den Grund im Protokoll."
            ),
        ),
        "foreign": (
            "Diese Adresse gehört nicht zu uns",
            "Nach der Anmeldung wären Sie auf einer fremden Seite gelandet.",
        ),
    },
}
