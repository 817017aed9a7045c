# app/responses.py
def forbid(text):
    return "Error: " + text
