"""Texts that nobody writes and every door gets: name -> text."""

from __future__ import annotations

import base64
import random

_LANGUAGES = (
    "누가 제 자전거를 훔쳤어요 도와주세요",
    "誰かが私の自転車を盗みました",
    "Кто-то украл мой велосипед прошлой ночью",
    "شخص ما سرق دراجتي الليلة الماضية",
    "किसी ने मेरी साइकिल चुरा ली",
    "มีคนขโมยจักรยานของฉัน",
    "Jemand hat mein Fahrrad gestohlen",
    "Quelqu'un a volé mon vélo",
    "Alguien robó mi bicicleta anoche",
    "Κάποιος έκλεψε το ποδήλατό μου",
)
_ARTICLE = (
    "本报讯（记者 王某）为进一步提升群众安全感，县公安局联合各乡镇开展冬季平安建设宣传活动，民警走村入户，讲解防火、防盗、"
    "防诈骗知识，发放宣传单两千余份，解答群众咨询三百余人次。下一步将持续加大宣传力度。"
) * 20
ODD = {
    "marks": "\u200b\ufeff",
    "emoji": "🔥",
    "one word": "火" * 4000,
    "word without end": "ab" * 2000,
    "article": _ARTICLE[:4000],
    "languages": "\n".join(_LANGUAGES),
    "base64": base64.b64encode(random.Random(1).randbytes(3000)).decode()[:4000],
    "digits": "8" * 3000,
    "numbers": " ".join(str(n) for n in range(900)),
    "punctuation": "！？。，" * 1000,
    "latin letters with gaps": "a b " * 1000,
    "every character once": "".join(map(chr, range(0x4E00, 0x4E00 + 4000))),
    "openings": "我就要" * 1300,
    "nearly forwards": "【转" * 1300,
    "letters": "各位领导好，" * 600,
    "closings": "请及时处理，" * 600,
    "announcements": "现将情况向您报告" * 500,
    "places": "任庄村" * 1300,
    "sums": "转了3000元，" * 600,
    "names": "老王老李老张" * 600,
    "times": "昨晚八点三刻" * 600,
    "villages": "西两洼乡大邵村东头" * 400,
    "kinds of place": "厂店馆村桥" * 800,
    "accents": "火" + "\u0301" * 3999,
    "lines": "\n" * 3999 + "a",
}
