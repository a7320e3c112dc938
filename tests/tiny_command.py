"""A synthesiser as a program of its own: a tone a letter, whose pitch is the voice's, written as a wav file.

It imports the standard library alone and repeats one period, since a test starts it for every utterance.
"""

import array
import sys
import wave

RATE = 16_000
LETTER_SECONDS = 0.07
PERIODS = {"low": 145, "high": 84}  # samples


def main(text: str, voice: str, output: str, speed: str = "1") -> None:
    num_samples = int(LETTER_SECONDS * RATE / float(speed))
    sound = array.array("h")
    for letter in text:
        loudness = 0 if letter == " " else 1500 + 300 * (ord(letter) % 8)
        period = array.array("h", [loudness * (1 - 2 * place // PERIODS[voice]) for place in range(PERIODS[voice])])
        sound.extend((period * (num_samples // len(period) + 1))[:num_samples])
    with wave.open(output, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(sound.tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
