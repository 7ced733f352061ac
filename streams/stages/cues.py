"""Cues: the few rules that are certain enough to speak before the model, each with its words as the reason.

They are about the language, not about a place; a county adds words of its own in its lexicon. Every expression is free
of nested repetition, so that the worst text costs no more than its length.
"""

from __future__ import annotations

import re

import msgspec

from schemas.vocabulary import Category


class Rule(msgspec.Struct, frozen=True):
    """A rule that fired: what it decides, the words it saw and why."""

    category: Category
    subtype: str | None
    confidence: float
    cue: str
    detail: str


class Urgency(msgspec.Struct, frozen=True):
    """A rule about urgency that fired."""

    urgent: bool
    cue: str
    detail: str


_HEARTBEAT = re.compile(
    r"心跳包?|heartbeat|self[- ]?test|自检(?:正常|通过|完成)|设备.{0,12}在线.{0,8}电量|online.{0,12}battery"
)
_TEST = re.compile(
    r"^(?:测试+|test(?:ing)?|试一下|测一下|123+)[\s\d,.!。]*(?:测试+|test|收到请忽略|请忽略|忽略)?[\s\d,.!。]*$"
)
_SERVICE = re.compile(
    r"^(?:收到+|好的?|ok|嗯+|明白|知道了|谢谢.{0,4}|辛苦了.{0,6}|1+|早上好.{0,6}|大家好.{0,4})[,。!\s]*(?:收到|谢谢|辛苦了)?[,。!~\s]*$"
)
_POPPY = re.compile(r"罂粟|大烟(?:花|葫芦|壳|苗|棵)|鸦片花|大麻(?:苗|叶|植株|棵)|opium popp|cannabis plant|毒品原植物")
_NEGATED_POPPY = re.compile(r"不是(?:罂粟|大烟|大麻)|虞美人")

#: Somebody means to end their own life; and what makes it a quarrel, a search for somebody or a tale.
_OWN_LIFE = re.compile(r"不想活|轻生|寻短见|(?:要|想|说|闹着)跳(?:楼|河|桥|井)|割腕|自杀|喝(?:了|下)(?:半瓶|一瓶)?(?:农药|除草剂|百草枯|敌敌畏)")
_NOT_ALONE = re.compile(
    r"吵|骂|打架|打起来|工钱|工资|讨薪|欠|要账|媳妇|老婆|丈夫|老公|两口子|对象|婆婆|离婚|彩礼|骗|转账|走失|没回来|关机|跑了|那家|宣传|演练|热线|讲座|电影|游戏|玩笑|泳池"
)

_THREAT = re.compile(
    r"(?:我|俺|老子|他|她|说)(?:就|要|非|就要|非得|今天|今儿|今晚)?(?:就|要|得)?(?:拿|动|抄|提|掂)(?:着)?(?:菜)?刀(?!削|具|片|工|疤)|(?:砍|弄|捅|杀|整|打)死(?:你|他|她|俺|我|恁|全家|你们|他们)|同归于尽|(?:要|扬言|说)(?:就)?(?:杀|砍|捅)(?:人|了(?:你|他|她))"
    r"|(?:要|扬言|想|准备|正|站).{0,6}(?:跳楼|跳河|跳井|喝农药|喝药(?!了就好)|自杀|轻生|(?<![往车])上吊)|泼(?:了)?汽油|拿(?:着)?(?:汽油|打火机).{0,4}(?:要|说)点|(?:i'?ll|going to|gonna|threaten\w* to) (?:kill|stab|burn)|持刀|(?:拿|举|拎|提|掂|攥|抡)着?(?:菜刀|砍刀|尖刀|水果刀|斧(?:子|头)|镰刀(?!找补|割|收)|铁锹|钢管|酒瓶)"
)
_NO_THREAT = re.compile(
    r"刀削面|刀鱼|磨刀|菜刀(?:丢|被偷|没了)|卖刀|剪刀手|刀片嘴|刀子嘴|笑死|急死|气死|累死|热死|冻死|烦死|吓死|臭死|没(?:有)?(?:拿|动)刀|(?:刀|斧子|钢管).{0,8}(?:夺下|抢下|收走|放下|扔了)"
    r"|(?:拉|劝|拽|接)(?:了)?(?:回来|下来|回去)|拦下"
)
#: Somebody's life, now. A call for help alone says too little.
_LIFE = re.compile(
    r"叫不醒|不动弹|没意识|昏迷不醒|不省人事|没呼吸|不喘气|吐白沫|救命(?!钱|之恩|恩|药|稻草|通道|[啊呀]*(?:作业|考试|这[狗猫]))|快来救|救人啊|快叫(?:救护车|120|消防|119)"
    r"|头破血流|见血了|(?:打|砍|捅|砸)(?:得|的|到)?.{0,3}(?:昏了|昏过去|晕了|晕过去|满脸(?:都|是|都是)?血|满头(?:都|是|都是)?血|出血|流血)|\bfight\w* with (?:an? )?(?:knife|knives|axes?|sticks?|bats?|shovels?|spades?|bottles?|pipes?)|\bstabb(?:ed|ing)"
    r"|发生(?:了)?(?:火灾|爆炸)|\bon fire\b|\b(?:is|are|keeps?) (?:beating|strangling|choking|stabbing) (?:me|her|him|his|my|the)\b"
    r"|(?:着火了|起火了|着起来了|烧起来了|火越烧越大).{0,20}(?:快|赶紧|救|来人)|(?:正|还|正在|还在)(?:烧着|往上窜|往外窜)"
)
#: Money that left so lately that the bank may still hold it.
_MONEY = re.compile(
    r"(?:刚|几|[0-9一二三四五六七八九十两]+多?)分钟(?:前|以前|之前).{0,12}(?:转|汇|打款|付|扫)|刚刚?才?(?:(?:转|汇)(?:了(?!一?圈|院|学|弯)|过去|出去|完)|打(?:过去|款|钱))"
)
#: A thief or swindler is held, or still there and at it; and what makes it over, a wish, a question, a tale or a catch.
_HELD = re.compile(
    r"(?:逮|按|摁|扭|捉|薅|抓)(?:着|住|获)(?:了)?|(?:抓|逮)(?:了|到)?(?:一|个|俩|仨)|按(?:在)?(?:地上|倒)|人(?:已|现)?(?:被)?(?:控制|扣住)|控制住"
    r"|(?:人|人员|车|对方|他们|小偷|贼|骗子)(?:还|仍)(?:在|没)(?:现场|那儿|里头|屋里|院里|店里|车上|走|跑|离开)|正(?:在)?(?:偷|撬|剪|搬|翻|往车上|装车|卸|拆|掏|骗)|(?:偷|撬|剪|搬|翻|拆)(?:着)?呢"
)
_NOT_HELD = re.compile(
    r"没(?:有)?(?:抓|逮|按|摁|堵|扣)|(?:抓|逮)(?:着|住|到)?没|能不能|能抓|抓不|逮不|没走成|昨天|昨晚|昨夜|上个?月|上周|前年|去年|前几天|三天|带走|送(?:去|到|派出所)|移交|均已抓获|拿回来|追回|算了|放了"
    r"|希望|早日|要是|如果|非(?:打|揍)|了吗|过偷|判了|上周|听说|猫|鼠|鸟|鱼|钓|赔|警(?:察|车)(?:来了|把|给|在)|才知道|谢谢|感谢|表扬|点赞|宣传|演|电影|抓(?:了)?[一两]?[千百十副]|狗|兔|猪|羊|鸡"
)
#: Beside these words a cue of life or money is a tale, a notice or a game.
_TOLD = re.compile(
    r"宣传|演练|讲座|提醒|培训|表扬|感谢|锦旗|游戏|梦见|电影|电视|追回|止付成功|没转成|没成功|假的|开玩笑|逗你"
)
_NOT_OVER = re.compile(
    r"又着|复燃|还在烧|还没(?:灭|找)|没找着|没找到|没灭|气还|还开着|昏|迷迷糊糊|压着|埋|里头还有|还有人"
)
_OVER = re.compile(
    r"(?<![灯屏幕])(?<!灯[也都全])灭了(?!火)|已扑灭|已熄灭|虚惊一场|误报|已复位|人没事了|已经?救上来|救上来了|都上来了|已经?找到|找着了|找到了|已经?劝(?:开|住)|劝住了|已(?:经)?脱险|已(?:经)?解决|已和解|人都散了|演练|演习|put out|found (?:him|her|safe)|false alarm|drill"
)
#: Nobody is hurt; and what beside it may yet hurt somebody.
_UNHURT = re.compile(
    r"(?:暂|尚|现场|均)?无(?:人员|人)?(?:受伤|伤亡)|没(?:有)?(?:砸|伤|碰|撞|刮)(?:着|到)人|人(?:都|倒)?没(?:啥)?事|没(?:有)?人受伤|没伤人|人没(?:受)?伤"
    r"|\b(?:nobody|no one|no-one)(?: was| is|'s)? (?:hurt|injured)|\bno injuries"
)
_NOT_UNHURT = re.compile(r"火|烟|燃|着了|烧|气|睡着|醉|刀|还在|继续|困|\b(?:fire|burning|smoke|gas|knife|drunk)\b")
#: Who was hurt is in a doctor's hands; and what says that somebody is not yet, or is no patient.
_CARED_FOR = re.compile(
    r"(?:已(?:经)?|刚)(?:被)?(?:送医|送(?:到|往|去)?(?:县)?医院|前往(?:医院|卫生|接种|就诊)|就医|到医院)|救护车(?:刚|已|给|把.{0,4})?(?:拉|接|抬)(?:走|上)|上(?:了)?救护车(?!前)"
    r"|(?:拉|送)(?:去|到|上)(?:县)?医院(?:了|包扎|缝)|缝了?.{1,2}针|打(?:了|过|完)(?:狂犬)?疫苗"
)
_NOT_CARED_FOR = re.compile(r"堵|走失|走丢|找不|不见|骗|跑了|住院部|困|里头还|还有|还没|等")
#: Without one of these _UNHURT and _CARED_FOR need not be looked for in a long text.
_OF_HARM = ("没", "无", "no")
_OF_CARE = ("医", "救护车", "缝", "疫苗")
#: Vehicles that do not get on; and what beside it may not wait, or is no jam.
_JAM = re.compile(
    r"拥堵|堵车|堵(?:得)?(?:死|满|严实|水泄|成一|瓷实)|(?:车|路|道|路口|桥).{0,6}堵|^(?:路|车|道)?(?:还|又|仍|一直)(?:在|是)?堵|堵(?:了|到|出).{0,6}(?:公里|里地|米|站|小时|半天)"
)
_NO_JAM = re.compile(
    r"救护|急救|消防|120|病|伤|血|撞|火|烟|打|刀|晕|昏|命|困|砸|翻|倒|摔|孕|罐|泄|氨|逆行|醉|偷|抢|跑|堵在(?!路|桥|道|国|省|高速)|堵(?:着|了|住)?(?:[他她我俺谁车]{0,3}的?)?(?:门|屋|家|仓|嘴|人|机器)|水|气|门"
)
#: A quarrel of which nothing is told but where, and who in the most general words. What goes on (`还在吵`) is no report by itself.
_QUARREL = re.compile(
    r"(?![还又正在一吵争])(?:(?:(?![邻家妻夫媳婆因与跟和为钱退收欠])[\u4e00-\u9fffa-z0-9]){0,8}?(?:店|馆|摊|铺|厅|市场|广场|超市|门口|路口|村口|口|街|路|园|院|堂|吧|站|城|区|楼|桥|集|大厅|ktv|银行|澡堂子|食堂|棚子|车上|路边|地里)"
    r"(?:里头|里面|里边|里|门口|门前|跟前|上|前头|外头|外面|附近|旁边|那儿|这儿|那边|这边)?)?(?:有人|[俩两几仨]个?人|好几个人|[俩两]拨人|一伙人|好些人)?"
    r"(?:还|又|正|正在|还在|在|一直)?(?:那儿|这儿)?(?:吵架|吵吵|吵起来|吵闹|吵嘴|争吵|吵上|吵|骂架|对骂|骂起来|骂上)(?:了|呢|着呢|着)?[!。~]*"
)


def ruled(text: str, channel: str) -> Rule | None:
    """The rule that decides the category of a normalised text, or None."""
    match = _HEARTBEAT.search(text)
    if match and channel == "bot" and len(text) < 60 and "报警" not in text:
        return Rule("other", "noise", 0.98, match.group(), "a device says that it is alive")
    if len(text) <= 16:
        match = _TEST.match(text) or _SERVICE.match(text)
        if match:
            return Rule("other", "noise", 0.97, match.group(), "a word of the group, no report")
    if not any(c.isalnum() for c in text):
        return Rule("other", "noise", 0.97, "no words", "no letter and no digit in the text")
    match = _POPPY.search(text)
    if (
        match
        and not _NEGATED_POPPY.search(text)
        and not re.search(r"宣传|讲座|传单|禁毒(?:日|知识|课)|举报有奖|请勿|严禁|不要种", text)
    ):
        return Rule("safety_hazard", "drug_plant", 0.95, match.group(), "names a plant that may not be grown")
    match = _OWN_LIFE.search(text)
    if match and not _NOT_ALONE.search(text):
        return Rule("safety_hazard", "other", 0.9, match.group(), "somebody's own life, and no quarrel is told")
    if len(text) <= 20 and _QUARREL.fullmatch(text):
        return Rule("dispute", "other", 0.9, text, "a quarrel, and nothing told of what it is about")
    return None


def urgency(text: str, category: Category) -> Urgency | None:
    """The rule that decides urgency, or None: threats, weapons, lives and a suspect who is held or still there make it, an end
    that is told, and that nobody is hurt any more, unmake it."""
    over = _OVER.search(text)
    threat = _THREAT.search(text)
    if threat and not _NO_THREAT.search(text) and not over:
        return Urgency(True, threat.group(), "a threat or a weapon")
    if not over and not _TOLD.search(text):
        match = _LIFE.search(text)
        if match:
            return Urgency(True, match.group(), "somebody's life, now")
        match = _MONEY.search(text) if "刚" in text or "分钟" in text else None
        if match:
            return Urgency(True, match.group(), "the bank may still hold the money")
        match = _HELD.search(text) if category in ("theft", "fraud") and not _NOT_HELD.search(text) else None
        if match:
            return Urgency(True, match.group(), "a suspect is held, or still there")
    if over and not threat and not _NOT_OVER.search(text):
        return Urgency(False, over.group(), "the text says that it is over")
    if not threat:
        unhurt = _UNHURT.search(text) if any(map(text.__contains__, _OF_HARM)) else None
        if unhurt and not _NOT_UNHURT.search(text):
            return Urgency(False, unhurt.group(), "nobody is hurt")
        cared_for = _CARED_FOR.search(text) if any(map(text.__contains__, _OF_CARE)) else None
        if cared_for and not _NOT_CARED_FOR.search(text):
            return Urgency(False, cared_for.group(), "who was hurt is being cared for")
    jam = _JAM.search(text) if "堵" in text else None
    if jam and not _NO_JAM.search(text):
        return Urgency(False, jam.group(), "a jam, and nobody hurt is told")
    return None
