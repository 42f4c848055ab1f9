"""Conversations that LangChain keeps in a node: PORT leave|find."""

import sys
import warnings

warnings.simplefilter("ignore", DeprecationWarning)

from langchain_community.chat_message_histories.redis import RedisChatMessageHistory

port, phase = int(sys.argv[1]), sys.argv[2]
URL = f"redis://127.0.0.1:{port}/0"


def history(number):
    ttl = 3600 if number % 2 else None
    return RedisChatMessageHistory(session_id=f"session-{number}", url=URL, ttl=ttl)


def talk(number):
    """What is said in a conversation: who says it, and the words."""
    turns = [("human", f"question {n}: \N{SNOWMAN}") for n in range(number * 3)]
    return [turn for human in turns for turn in (human, ("ai", human[1].upper()))]


def leave():
    gone = history(99)
    gone.add_user_message("forget me")
    gone.clear()
    assert gone.messages == []
    for number in range(1, 8):
        conversation = history(number)
        for who, words in talk(number):
            if who == "human":
                conversation.add_user_message(words)
            else:
                conversation.add_ai_message(words)


def find():
    assert history(99).messages == []
    for number in range(1, 8):
        conversation = history(number)
        found = [(message.type, message.content) for message in conversation.messages]
        assert found == talk(number), found
        ttl = conversation.redis_client.ttl(conversation.key)
        assert (3000 < ttl <= 3600) if number % 2 else ttl == -1, ttl
        conversation.add_user_message("and one more")
        assert len(conversation.messages) == len(found) + 1


{"leave": leave, "find": find}[phase]()
print("ok")
