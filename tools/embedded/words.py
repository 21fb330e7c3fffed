"""The words that pictures and sounds are about. Both the generators and the tokenizer read them."""

# Name -> RGB; what is drawn varies around it (pictures.py).
COLOURS = {
    "red": (220, 30, 30), "green": (30, 160, 50), "blue": (35, 70, 215),
    "yellow": (245, 220, 40), "orange": (250, 140, 20), "purple": (130, 45, 170),
    "pink": (250, 130, 180), "brown": (120, 70, 30), "black": (15, 15, 15),
    "white": (250, 250, 250), "gray": (128, 128, 128), "cyan": (40, 210, 220),
}
SHAPES = ["circle", "square", "triangle", "rectangle", "star", "cross", "ring", "diamond"]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
# Short words that stand in pictures, most of them seen on a screen.
READ = """add and back bad blue bus car cat code day dog done end error exit fail file find fix for
from get go good green hello help home if in key left line list load log main map menu more move
name new next no not off ok on open page play print quit read red run save send set show sign size
sort start stop sun table test text time top tree true undo up user wait warn word yes you zoom""".split()
SPOKEN = NUMBERS + ["yes", "no", "stop", "go"]

SENTENCES = """
What colour and shape is it? It is a red circle. A red circle on a white background.
How many objects are there? There are three. There is one. The digit is seven. The word is stop.
What is in the picture? What does it say? Which digit is this? Read the word. What do you hear?
Silence. Noise. A tone. A low tone. A high tone. Two beeps. Someone says seven. It is silent.
The first picture shows a blue square, the second a green star. Is the pitch low or high?
How many beeps are there? Which word is spoken? Transcribe the speech. Describe the picture.
"""
