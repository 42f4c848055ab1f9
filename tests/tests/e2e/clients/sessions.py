"""Web sessions that Flask-Session keeps in a node: PORT leave|find COOKIES, the file of the browser."""

import json
import sys

from flask import Flask, session
from flask_session import Session
from redis import Redis

port, phase, cookies = int(sys.argv[1]), sys.argv[2], sys.argv[3]
app = Flask(__name__)
app.config.update(SESSION_TYPE="redis", SESSION_REDIS=Redis(port=port))
Session(app)


@app.route("/add/<item>")
def add(item):
    session.setdefault("cart", []).append(item)
    session["visits"] = session.get("visits", 0) + 1
    session.modified = True
    return session["cart"]


@app.route("/cart")
def cart():
    return {"cart": session.get("cart", []), "visits": session.get("visits", 0)}


def leave():
    kept = []
    for visitor in range(20):
        browser = app.test_client()
        for item in range(visitor + 1):
            browser.get(f"/add/item-{visitor}-{item}")
        kept.append(browser.get_cookie("session").value)
    with open(cookies, "w", encoding="utf-8") as file:
        json.dump(kept, file)


def find():
    with open(cookies, encoding="utf-8") as file:
        kept = json.load(file)
    for visitor, cookie in enumerate(kept):
        browser = app.test_client()
        browser.set_cookie("session", cookie)
        wanted = [f"item-{visitor}-{item}" for item in range(visitor + 1)]
        found = browser.get("/cart").json
        assert found == {"cart": wanted, "visits": visitor + 1}, found
        browser.get("/add/more")
        assert browser.get("/cart").json["cart"] == [*wanted, "more"]
    stranger = app.test_client().get("/cart").json
    assert stranger == {"cart": [], "visits": 0}, stranger


{"leave": leave, "find": find}[phase]()
print("ok")
