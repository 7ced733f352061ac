"""Letter: what is put around a report out of courtesy - salutation, who writes, "as follows", "please see to it", thanks,
a signature. It says nothing about what happened, yet makes unlike reports of one writer look alike, and drowns the report.

A heading or a closing is taken off clause by clause while it is nothing but such words; what names anything else stays.
Every expression is possessive or bounded: the worst text costs no more than its length.
"""

from __future__ import annotations

import re
from typing import Final

#: At least so much must be left: a text of courtesies alone stays as it is.
_LEAST: Final = 4
#: Clauses looked at from the end.
_MOST: Final = 6
_MARKS: Final = ",。:;!?~ "
#: A clause of a closing is no longer than this.
_LONGEST: Final = 40
#: What a heading may begin with, so that most texts are done with at a glance.
_FIRST: Final = frozenset("尊敬亲各镇乡村县领警民所书主工您你大早上中下晚辛打我本俺这现特兹想要来将就把对向跟给和以由今昨近最巡走入排检摸值日发了掌收听看有相具详简基情问线隐事报汇反通说一如内几")

_WHO = (
    "领导|同志|警官|所长|书记|主任|镇长|乡长|县长|局长|队长|站长|村长|负责人|工作人员|值班员|接线员|网格长|老师|政府|派出所|公安局|公安机关|村委会?|镇里|乡里|县里|有关部门|相关部门|主管部门|上级|组织|贵所|贵单位|您|你|大家|咱"
)
_GREETING = r"(?:您|你|你们|大家|各位|早上|上午|中午|下午|晚上|领导)好|辛苦了?|打扰了?"
_SALUTATION = re.compile(
    rf"(?:(?:尊敬|敬爱|亲爱)的|各位)(?:[^,。:;!?\s]{{0,10}}?(?:{_WHO}))(?:同志)?们?(?:的)?(?:{_GREETING}|好)?[{_MARKS}]+"
    rf"|(?:[镇乡村县]?(?:领导|警察同志|民警同志|警官|所长|书记|主任|工作人员))(?:同志)?们?,?(?:{_GREETING}|好)[{_MARKS}]+"
    rf"|领导们?[{_MARKS}]+|(?:{_GREETING})[{_MARKS}]+"
)
#: Who writes, by an office that people hold for all: no party to anything.
_OFFICE = "志愿者|网格员|信息员|联络员|巡逻员|巡防员|巡查员|安全员|护村员|治安员|护学员|楼长|单元长|热心(?:群众|市民|村民|居民)|普通(?:群众|市民|村民|居民)"
_WRITER = re.compile(
    rf"(?:我|本人|俺|这里|这边)(?:是|系|乃|叫)(?:(?!反映|举报|看|让|被|打|因|对|不)[^,。:;!?\s]){{0,24}}?(?:{_OFFICE})"
    rf"(?:(?!看|发现|被|把|在|有|说|给|了|让|叫|丢|刚|不)[\u4e00-\u9fff]){{0,4}}[{_MARKS}]+"
)
#: Announces a report. Nothing but these words may stand in it.
_ANNOUNCED = re.compile(
    r"(?:现在?|特|兹|想|要|来|将|就|把|对|向|跟|给|和|以|下|由|我们?|本人|俺们?|今天|今日|今早|昨天|昨晚|近日|近期|最近|本周|本月|巡查|巡逻|走访|入户|排查|检查|摸排|值班|值守|工作|日常|期间|中|里|所|时|发现|了解|掌握|收集|听到|看到|到|的|了|一|些|几|个|件|起|条"
    r"|有关|相关|具体|详细|简要|基本|主要|情况|问题|线索|隐患|事情|事项|事|报告|汇报|反映|上报|通报|反馈|报一?下|说明|一下|如下|内容"
    rf"|您|你们?|贵所|贵单位|各位|大家|村里|镇里|派出所|有关部门|相关部门|上级|组织|群里|领导们?)++[{_MARKS}]+"
)
_REPORTING = re.compile(r"如下|[向给跟和].*(?:报告|汇报|反映|上报|通报|反馈|说明)|(?:报告|汇报|反映|上报|通报|反馈).*(?:情况|问题|事|线索)|^情况[,:]")

_ASKED = "安排(?:人员?|力量)?(?:维修|检修|查看|处理|解决|核实)|处理|解决|核实|核查|查处|查证|关注|重视|调查|协调|处置|整改|落实|答复|回复|批示|指示|知悉|知晓|办理|督办|支持|为盼|为荷"
_REQUEST = re.compile(
    rf"(?:及时|尽快|尽早|早日|抓紧)(?:{_ASKED})(?:一下|为盼)?|(?:恳?请|敬请|烦请|还请|请求|恳求|希望|望|盼|拜托)(?:(?:各位|尊敬的|{_WHO})们?)?+(?:能够?|可以|予以|给予|及时|尽快|尽早|早日|抓紧|高度|多多|酌情|妥善|依法|认真|一下|对此|引起|给)*+(?:{_ASKED})(?:一下|为盼|为荷|和|并|与|及|尽快|{_ASKED})*+"
    r"|妥否请批示|当否请批示"
)
_CLOSING = re.compile(
    r"(?:非常|十分|万分|衷心|再次)?(?:感谢|谢谢|多谢|致谢)(?:各位|领导|您|你们?|大家|组织|政府|对|的|们|百忙之中|抽空|支持|关注|关心|重视|理解|配合|帮助|平安|建设|工作|辛苦|付出|阅读|和|与|及|了|我们)*+"
    r"|此致|敬礼|此致敬礼[\u4e00-\u9fff]{0,14}|特此(?:报告|反映|汇报|通报|上报|说明|告知)|以上(?:情况)?(?:请|特此)?(?:知悉|汇报|报告|属实)?|以上(?:就是|是)?(?:今天|本次)?(?:的)?(?:情况|内容)"
    r"|(?:打扰|麻烦|辛苦|拜托)(?:您|你|你们|领导|各位|大家)?(?:了|啦)?|收到请回复|(?:报告|汇报|反映|上报)完毕"
)
_SIGNED = re.compile(
    rf"(?:(?:报告|反映|举报|上报|联系|落款)人|[\u4e00-\u9fff]{{0,8}}(?:{_OFFICE}))[\u4e00-\u9fff]{{0,3}}(?:敬上|敬报)?|[\u4e00-\u9fff]{{0,4}}(?:敬上|敬报)"
)
#: What a request and a closing may begin with.
_ASKS: Final = frozenset("恳请敬烦还希望盼拜及尽早抓妥当")
_CLOSES: Final = frozenset("非十万衷再感谢多致此敬特以打麻辛拜收报汇反上")


def body(text: str) -> str:
    """A normalised text without the courtesies around it; the text itself where there are none."""
    start = 0
    while text[start : start + 1] in _FIRST:
        match = _SALUTATION.match(text, start) or _WRITER.match(text, start) or _ANNOUNCED.match(text, start)
        if match is None or (match.re is _ANNOUNCED and not _REPORTING.search(match.group().rstrip(_MARKS))):
            break
        start = match.end()  # Every clause takes something off, so this ends.
    end = _end(text, start)
    if start == 0 and end == len(text):
        return text
    left = text[start:end] if end == len(text) else text[start:end].rstrip(_MARKS)
    return left if len(left) >= _LEAST else text


def _end(text: str, start: int) -> int:
    """Where the closing begins. Thanks and names are a closing only of what opened as a letter or ends with a request: thanks
    can be all that a text has to say."""
    formal, kept, end = start > 0, len(text), len(text)
    for _ in range(_MOST):
        told = end
        while told > start and text[told - 1] in _MARKS:
            told -= 1
        clause = max([text.rfind(mark, max(start, told - _LONGEST), told) for mark in _MARKS]) + 1
        if not clause:
            if told - start > _LONGEST:
                break
            clause = start
        first = text[clause : clause + 1]
        if first in _ASKS and _REQUEST.fullmatch(text, clause, told):
            kept, formal = clause, True
        elif not (first in _CLOSES and _CLOSING.fullmatch(text, clause, told)) and not (formal and _SIGNED.fullmatch(text, clause, told)):
            break
        end = clause
        if formal:
            kept = clause
        if clause <= start:
            break
    return kept
