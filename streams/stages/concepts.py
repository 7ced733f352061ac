"""Concepts: a small thesaurus of what tips speak of, in the words people use for it - Chinese, dialect and English.

Two wordings of one incident often share no word: `电车`, `电瓶车` and `e-bike` are one thing, `河里有人` and `a man in
the river` one event. Every concept is a bit; grouping compares the bits of two tips. Concepts are of three kinds: things
(what was taken, broken, burning, quarrelled over), sites (kinds of place, which are no names) and happenings (acts,
people, outcomes). Marks, bits of their own, tell one from its like: colours, makes, what was taken, how far it went. The lists are
about the language and hold nothing of any one county.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

_THINGS: Final = """
e_bike 电动车 电车 电瓶车 电动自行车 电驴 e-bike ebike scooter
tricycle 三轮 三马 三蹦子 tricycle
bicycle 自行车 单车 洋车 bicycle bike
motorbike 摩托 motorbike motorcycle
car 轿车 小车 私家车 汽车 suv car sedan 捷达 奥迪 越野车
lorry 货车 大车 半挂 挂车 卡车 罐车 渣土车 truck lorry tanker trailer
bus 公交 大巴 客车 校车 bus
farm_machine 拖拉机 收割机 播种机 旋耕 农机 tractor harvester
battery 电瓶 电池 battery batteries
fuel 柴油 汽油 偷油 抽油 diesel petrol fuel
wheel 轮胎 车胎 轱辘 轮毂 tyre tire wheel
seat 座桶 储物箱 后备箱 后座 头盔 雨衣 helmet
glass 玻璃 车窗 挡风 window windshield
plate_mirror 后视镜 倒车镜 反光镜 mirror
cable 电缆 电线 铜线 铜缆 线缆 光缆 电话线 网线 网络线 wire wires cable
transformer 变压器 配电箱 配电柜 电表 transformer
pole 电线杆 电杆 灯杆 杆子 歪杆 pole
lamp 路灯 street-light streetlight lamp
signal 红绿灯 信号灯 红灯 绿灯 traffic-light signal
pump 水泵 潜水泵 电机 机井 pump
steel 钢丝 丝网 网片 钢筋 铁网 护栏 钢管 脚手架 角铁 mesh steel
machine 织机 织网机 机器 设备 machine
manhole 井盖 窨井 下水道 manhole
pit 土坑 大坑 鱼塘 坑塘 池塘 水坑 沟里 pond pit
well 枯井 水井 机井 井口 井里 井 well
river 河里 河边 落水 掉水 溺水 下河 游泳 river drown drowning drowned swim
ice 冰面 冰上 冰窟 ice
flood 积水 淹了 被淹 水深 flood flooded
leak 漏水 跑水 水管 爆管 leak pipe
gas 燃气 煤气 天然气 液化气 煤气罐 气罐 调压箱 gas
stove 炉子 煤炉 一氧化碳 煤烟 中毒 生炉 头疼 恶心 monoxide
smoke 冒烟 起烟 浓烟 黑烟 烟雾 烟火 冒黑 烟 smoke
fire 着火 起火 失火 着了 火苗 火势 灭火 点着 烧着 引燃 火灾 大火 明火 热点 温感 高温 烧了 火 fire burning flames
explosion 爆炸 炸了 嘭 explosion exploded
fireworks 烟花 鞭炮 炮摊 花炮 放炮 卖炮 fireworks firecracker
straw 秸秆 麦茬 麦秸 棒子秸 柴火 柴垛 柴草 荒草 干草 芦苇 straw stubble grass
garbage 垃圾 垃圾桶 垃圾箱 trash garbage bin
greenhouse 大棚 温室 塑料膜 棚膜 greenhouse
wall 院墙 围墙 墙头 墙皮 塌墙 墙基 墙根 砖皮 墙外 砖 wall bricks
roof 房顶 屋顶 房梁 塌了 土房 危房 漏雨 roof collapse collapsed
billboard 广告牌 招牌 牌匾 牌子 billboard signboard
crane 塔吊 吊车 工地 吊篮 scaffold crane
inflatable 充气 城堡 蹦床 滑梯 秋千 inflatable castle slide
lift 电梯 困在 elevator lift
tower 水塔 铁塔 塔上 tower
boundary 地边 地界 界石 边界 地埂 田埂 承包地 过了界 耕地 地头 宅基 滴水 灰角 放线 boundary
tree 树枝 砍树 杨树 果树 枣树 梨树 核桃树 大树 树 tree trees
drain 排水 污水 臭水 泔水 drain sewage
fumes 油烟 排烟 呛人 fumes
noise 噪音 吵得 音响 广场舞 吵闹 喇叭 noise loud
smell 臭味 臭得 粪水 粪 异味 stink smell
sheep 山羊 绵羊 羊 sheep goat goats
pig 生猪 小猪 母猪 猪 pig pigs
cattle 奶牛 黄牛 牛犊 牛 cow cattle calf
donkey 毛驴 骡子 donkey
poultry 母鸡 公鸡 鸡 鸭子 鸭 大鹅 鹅 hens chicken chickens duck ducks geese
dog 狗 dog dogs
cat 小猫 猫 cat
fish 鱼 电鱼 捞鱼 偷鱼 fish
bees 蜜蜂 蜂箱 马蜂 蜂 bees hive
grain 麦子 小麦 玉米 棒子 粮食 粮仓 谷子 大豆 wheat corn grain
fruit 桃 梨 苹果 西瓜 葡萄 草莓 大枣 瓜地 果园 peaches pears apples melons grapes
vegetables 白菜 辣椒 大蒜 西红柿 黄瓜 大葱 菜地 vegetables cabbage garlic
herbs 药材 树苗 苗木 花卉 绿植 seedlings
timber 木头 木料 板材 timber planks
money 现金 钱匣 零钱 钱柜 存折 银元 cash
jewellery 金戒指 戒指 项链 金饰 耳环 首饰 金链 手镯 玉镯 银镯 金器 金店 黄金 jewelry jewellery ring necklace bracelet
handset 手机 phone iphone 华为
bag 钱包 挎包 背包 书包 提包 包 wallet purse bag backpack
drinks 白酒 酒水 好酒 茅台 酒 liquor wine
cigarettes 香烟 中华烟 条烟 烟酒 cigarettes
computer 电脑 笔记本 平板 监控 computer laptop
appliance 电视 空调 冰箱 洗衣机 收音机 电饭锅 appliance tv
tools 工具 电焊 扳手 电锯 切割机 tools
ball 篮球 足球 跳绳 体育 ball
parcel 快递 包裹 驿站 parcel package courier
clothes 衣服 童装 羽绒服 鞋 clothes shoes
food 饭菜 吃坏 拉肚子 变质 过期 吐了 expired food
medicine 农药 药水 毒药 百草枯 喝药 pesticide poison
poppy 罂粟 大烟 植株 割痕 果实 割了 葫芦 poppy poppies opium
umbrella 雨伞 umbrella
keys 钥匙 身份证 证件 驾照 keys
scrap 废铁 废品 废纸 scrap
coal 煤球 蜂窝煤 煤堆 coal
fertiliser 化肥 种子 饲料 fertilizer seeds
grave 坟地 坟头 上坟 烧纸 祖坟 坟 墓 grave tomb
solar 光伏 太阳能 solar panels
chemical 化学 酸 氨 刺鼻 泄漏 油漆 chemical
sand 沙子 石子 水泥 砂石 sand gravel cement
road 路面 塌陷 坑洼 大坑 路坏 pothole potholes
obstacle 抛洒 掉落 散落 货掉 障碍 横在 debris
bricks_door 卷帘门 防盗门 门锁 锁芯 撬锁 撬 窗户 护栏 lock
needle 针头 镖 吹箭 毒狗 药狗
"""

_SITES: Final = """
school 学校 小学 中学 幼儿园 校园 校门 校方 教室 操场 老师 school kindergarten classroom
hospital 医院 卫生院 卫生室 急诊 病房 大夫 hospital clinic
pharmacy 药店 药房 pharmacy
market 市场 集市 大集 赶集 摊子 摊主 摆摊 夜市 market stall
supermarket 超市 便利店 小卖部 supermarket store
restaurant 饭店 饭馆 烧烤 餐馆 面馆 早点 火锅 后厨 restaurant barbecue
hotel 宾馆 旅馆 酒店 民宿 hotel
fun ktv 网吧 棋牌 麻将 台球 酒吧 歌厅 karaoke bar
station 车站 汽车站 火车站 站台 station
bus_stop 公交站 bus-stop
parking 停车场 车库 地库 车棚 停车位 车位 parking garage
factory 厂里 车间 工厂 厂房 老板 厂区 厂门 作坊 女工 factory workshop boss owner
warehouse 仓库 库房 货站 物流园 冷库 warehouse
estate 小区 楼道 单元 楼下 楼上 业主 物业 楼层 号楼 apartment building
field 地里 麦田 农田 庄稼 田里 麦地 棒子地 坡 field
courtyard 院子 老宅 堂屋 屋里 炕 老屋 老院 家里 yard
yard_abandoned 废院 废弃 荒院 空院 abandoned
bank 银行 柜台 信用社 取款 atm bank
bridge 桥 涵洞 桥洞 bridge
junction 路口 十字路 十字口 丁字 intersection junction crossing
highway 国道 高速 省道 服务区 highway
fuel_station 加油站 加气站
temple 寺庙 庙会 庙 temple
park 公园 广场 游乐场 游乐 park square playground
village_office 村委 村支书 支书 村干部 书记 大队
barber 理发 美容 美发 健身 salon
canal 水渠 沟渠 渠 闸 河道 大坝 河堤 坝 canal dam
wedding 婚礼 喜宴 接亲 婚车 酒席 随礼 wedding
funeral 出殡 丧事 办白事 funeral
water_station 水站 接水 打水
gym_pool 泳池 澡堂 浴池 pool bath
police 派出所 警察 民警 交警 police officer
"""

_HAPPENINGS: Final = """
child 孩子 小孩 男孩 女孩 娃 学生 儿童 小朋友 小姑娘 闺女 男童 女童 child boy girl kid kids children
elder 老人 老太 大爷 大娘 老头 老汉 老年 老爷子 奶奶 爷爷 痴呆 elderly old
pregnant 孕妇 怀孕 大肚子 pregnant
woman 女工 女子 女性 女的 嫂子 妇女 大姐 woman women lady
workers 工人 民工 员工 上班 职工 工友 workers worker employees
couple 丈夫 妻子 媳妇 老公 老婆 两口子 夫妻 离婚 家暴 前夫 前妻 对象 husband wife
in_laws 婆婆 丈母娘 岳父 公公 儿媳 妯娌 小姑
care 赡养 养老 轮流 兄弟 分家 遗产 轮 inheritance
bride_price 彩礼 退婚 订婚
neighbours 邻居 对门 西邻 东邻 街坊 neighbor neighbour
drunk 喝多 喝酒 醉 酒驾 酒后 酗酒 drunk
fight 打架 动手 打人 互殴 打起来 扭打 互抓 撕扯 拉扯 薅 抡 揍 推搡 干仗 打了 fight fighting punched
quarrel 吵架 争吵 吵起来 骂 口角 嚷 吵 quarrel argue arguing shouting
weapon 拿刀 菜刀 持刀 棍 铁锹 刀子 斧 knife axe
hurt 流血 受伤 伤者 骨折 缝 昏迷 晕 120 救护车 擦伤 血 injured bleeding hurt ambulance
dead 没气 死了 去世 死亡 dead died
crash 追尾 相撞 撞了 撞上 碰上 剐蹭 刮蹭 擦了 车祸 翻车 蹭 撞 crash collision hit
trapped 夹住 被困 困住 卡住 出不来 被夹 trapped stuck
jam 堵 拥堵 绕行 堵车 jam queue
escaped 跑了 逃逸 逃走 逃跑 肇事 fled escaped
caught 抓住 逮住 抓了 逮着 按住 扣下 控制 当场 caught
climb 跳楼 轻生 跳河 想不开 攀上 塔上 塔顶 爬 jump suicide
lost_person 走失 走丢 不见了 失踪 寻人 没回来 找不到 missing
owes 欠薪 工资 工钱 讨薪 要账 拖欠 欠着 欠俩 欠条 结账 血汗钱 wages unpaid
debt 借钱 还钱 欠款 债 借条 借给 debt
rent 房租 租金 押金 房东 租客 退租 rent landlord deposit
sitting 坐地 坐着 门槛 坐门 不走 sitting doorstep
refund 退货 退款 退钱 不退 不给退 退卡 refund
land 种地 合同 合作社 流转 大队地
blockade 堵门 围堵 堵着 坐着不走 不让走 不让进 拦车 躺 拦着 block
burglary 翻墙 进贼 撬 入室 翻得 柜门 翻箱 进了贼 溜门 broke burglar
stolen 偷 被盗 失窃 盗 丢了 没了 顺走 不见 stolen theft stole
pickpocket 扒窃 夹包 掏兜 割包 pickpocket
extort 敲诈 勒索 裸聊 截图 视频通话 blackmail
brushing 刷单 刷评 点赞 返佣 做任务 兼职 佣金 垫付 补单
invest 投资 理财 平台 提现 炒股 虚拟币 基金 分红 赎回 收益 invest investment
dating 网恋 军官 相亲 对象 陪聊 恋爱 online-date
loan 贷款 放款 解冻 验资 征信 刷流水 loan
fake_police 公安局 洗钱 涉案 通缉 检察 安全账户 冒充公 公检法
fake_service 客服 注销 会员 理赔 百万保障 花呗 白条 customer-service
ticket 机票 改签 航班 车票 演唱会 ticket flight
game 游戏 账号 皮肤 装备 game
lottery 中奖 抽奖 彩票 刮刮 lottery prize
qr 二维码 扫码 屏幕共享 共享屏幕 验证码 链接 app
topup 充值卡 卡密 购物卡 超市买
acquaintance 冒充 领导 校长 同学 老板让 微信头像 换号
renovation 装修 盖房 施工 工程
rental_service 搬家 租车 订金 定金 保姆 中介
health 保健品 讲座 神医 算命 消灾 符
stone 古董 玉石 金佛 元宝 铜钱
transfer 转账 转了 打款 汇款 转走 打钱 transfer
frozen 冻结 止付 冻住 拦下 追回 frozen
gamble 赌博 赌 赌局 麻将 gambling
robbery 抢劫 抢走 抢包 夺 robbed robbery snatched
damage 划了 划车 扎了 砸了 砸坏 毁坏 scratched smashed
suspicious 可疑 鬼鬼祟祟 转悠 踩点 陌生人 蹲点 suspicious
overload 超载 超员 拉人 拉了 站人 overloaded
bite 咬了 咬伤 咬人 bit bitten
electric 漏电 触电 带电 麻了 火花 打火 短路 断电 electrocuted sparks
wind 大风 刮倒 掀翻 刮断 风掀 吹倒 wind
publicity 宣传 提醒 请大家 注意防范 反诈 消防演练 提示
thanks 感谢 谢谢 锦旗 表扬 thank thanks
notice 开会 集合 通知 培训 志愿者 护学岗 义诊 meeting
intrusion 入侵 周界 防区 移动侦测 intrusion
poison_dog 毒饵 下药 毒死
charging 充电 飞线 charging
power_cut 停电 没电 断电 outage
picked_up 捡到 捡了 捡一 拾到 失主 认领 谁丢 picked-up
"""

#: What tells a thing from its like. A colour counts before what has one: `红旗街` is a street.
_COLOURS: Final = """
red 红 枣红 酒红 red
white 白 white
black 黑 black
blue 蓝 藏青 藏蓝 blue navy
green 绿 军绿 green
yellow 黄 yellow
grey 灰 grey gray
pink 粉 pink
purple 紫 purple
silver 银 silver
brown 棕 咖啡 褐 brown
orange 橙 橘 orange
"""
_COLOURED: Final = "色 轿 面包 货车 皮卡 捷达 五菱 大众 哈弗 电动 电车 电瓶 电三轮 三轮 三马 摩托 踏板 雅迪 爱玛 台铃 小刀 小牛 新日 绿源 奇瑞 吉利 宝来 奥迪 越野 suv 小车 上衣 棉袄 棉衣 棉服 袄 褂 裤 裙 帽 鞋 外套 羽绒 马甲 夹克 卫衣 毛衣 大衣 t恤 壳 书包 头盔 围巾".split()
_MAKES: Final = """
yadea 雅迪 yadea
aima 爱玛 aima
tailg 台铃
xiaodao 小刀电
niu 小牛电 小牛的 九号电
sunra 新日
luyuan 绿源
chilwee 超威
tianneng 天能
apple 苹果手机 苹果1 苹果的 iphone
huawei 华为 huawei
oppo oppo
vivo vivo
xiaomi 小米手机 小米1 红米 xiaomi redmi
honor 荣耀手机 荣耀 honor
wuling 五菱 wuling
jetta 捷达 jetta
volkswagen 大众 桑塔纳 帕萨特 volkswagen
haval 哈弗 长城炮 haval
byd 比亚迪 byd
changan 长安
toyota 丰田 toyota
honda 本田 honda
audi 奥迪 audi
bmw 宝马 bmw
foton 福田 时风 五征
douyin 抖音 douyin tiktok
jingdong 京东 jingdong
taobao 淘宝 天猫 taobao
pinduoduo 拼多多
alipay 支付宝 花呗 借呗 alipay
kuaishou 快手
meituan 美团 饿了么
unionpay 银联
xianyu 闲鱼
"""
#: What was taken, of what is taken in one place over and over.
_LOOT: Final = """
handset 手机 phone iphone
cash 现金 块钱 十块 百块 千块 万块 零钱 钱包 钱夹 香火钱 货款 cash wallet purse
jewellery 戒指 项链 耳环 首饰 金链 手镯 镯子 necklace bracelet ring
battery 电瓶丢 电瓶被 电瓶没 电瓶让 电瓶叫 电瓶不 偷电瓶 卸电瓶 块电瓶 组电瓶 电池被 电池丢 电池没 电池让 battery batteries
"""
#: How far it went: whether there was a fight, and whether somebody was hurt - and what says that not.
_FORCE: Final = """
fought 打人 打架 打起来 打成 打得 打伤 打倒 打破 挨打 被打 抡 砍 捅 扇 踹 掐 群殴 殴打 撕打 厮打 动家伙 动了手 fighting fight beaten beating punched
no_fight 没动手 没打 没有动手 未动手 没有打 未打 未发生冲突 没发生冲突 只是吵 就是吵 动嘴
hurt 流血 出血 淌血 冒血 受伤 骨折 起不来 昏 头破 摔伤 撞伤 擦伤 打伤 刮伤 住院 缝了 injured hurt bleeding
unhurt 没受伤 无人受伤 没伤着 没人受伤 人没事 人都没事 没伤人 无人员受伤 没砸着 没碰着 没撞着 人没伤 没摔着 没大事
"""


def _read(table: str, first: int) -> dict[str, int]:
    """Lines of `name words...` -> word -> its concept's bit; a word may stand under several concepts."""
    bits: dict[str, int] = {}
    for number, line in enumerate(table.strip().splitlines()):
        for word in line.split()[1:]:
            bits[word] = bits.get(word, 0) | 1 << (first + number)
    return bits


def _count(table: str) -> int:
    return len(table.strip().splitlines())


_FIRST_SITE: Final = _count(_THINGS)
_FIRST_HAPPENING: Final = _FIRST_SITE + _count(_SITES)
#: How many concepts there are.
COUNT: Final = _FIRST_HAPPENING + _count(_HAPPENINGS)

#: Masks of the three kinds.
THINGS: Final = (1 << _FIRST_SITE) - 1
SITES: Final = (1 << _FIRST_HAPPENING) - 1 - THINGS
HAPPENINGS: Final = (1 << COUNT) - 1 - THINGS - SITES

_HAPPENED: Final = _read(_HAPPENINGS, _FIRST_HAPPENING)
#: Money that was stopped, frozen or got back: the sums told with it are parts of a loss.
STOPPED: Final = _HAPPENED["止付"]
#: Who may be missing: an old person or a child.
ELDER: Final = _HAPPENED["老人"]
CHILD: Final = _HAPPENED["小孩"]
#: Somebody has the thing, and looks for its owner.
PICKED_UP: Final = _HAPPENED["捡到"]

_FIRST_LOOT: Final = _count(_COLOURS) + _count(_MAKES)
_FIRST_FORCE: Final = _FIRST_LOOT + _count(_LOOT)
#: Masks of the kinds of marks.
COLOURS: Final = (1 << _count(_COLOURS)) - 1
MAKES: Final = (1 << _FIRST_LOOT) - 1 - COLOURS
LOOT: Final = (1 << _FIRST_FORCE) - (1 << _FIRST_LOOT)
FOUGHT, NO_FIGHT, HURT, UNHURT = [1 << _FIRST_FORCE + n for n in range(4)]


def _coloured() -> dict[str, int]:
    """Every colour before everything that has one; Latin colours as they are."""
    read = _read(_COLOURS, 0)
    return {
        word: bit
        for colour, bit in read.items()
        for word in ([colour + thing for thing in _COLOURED] if colour >= "\u3400" else [colour])
    }


class _Lookup:
    """Words -> bits, found fast: single characters, longer words by their first two, Latin words."""

    def __init__(self, tables: Iterable[Mapping[str, int]]) -> None:
        words: dict[str, int] = {}
        for table in tables:
            for word, bit in table.items():
                words[word] = words.get(word, 0) | bit
        self._single = {w: b for w, b in words.items() if len(w) == 1 and w >= "\u3400"}
        self._latin = {w: b for w, b in words.items() if w[0] < "\u3400"}
        longer: dict[str, list[tuple[str, int]]] = {}
        for word, bit in words.items():
            if word[0] >= "\u3400" and len(word) > 1:
                longer.setdefault(word[:2], []).append((word, bit))
        self._longer = {start: tuple(found) for start, found in longer.items()}
        self._starts, self._singles = frozenset(longer), frozenset(self._single)

    def bits(self, text: str, bigrams: set[str], words: list[str]) -> int:
        """All bits of a text."""
        bits = 0
        for character in self._singles.intersection(text):
            bits |= self._single[character]
        for start in self._starts & bigrams:
            for word, bit in self._longer[start]:
                if len(word) == 2 or word in text:
                    bits |= bit
        for word in words:
            bits |= self._latin.get(word, 0)
        return bits


_SPOKEN: Final = _Lookup([_read(_THINGS, 0), _read(_SITES, _FIRST_SITE), _HAPPENED])
_MARKED: Final = _Lookup([_coloured(), _read(_MAKES, _count(_COLOURS)), _read(_LOOT, _FIRST_LOOT), _read(_FORCE, _FIRST_FORCE)])


def concepts(text: str, bigrams: set[str], words: list[str]) -> int:
    """The concepts of a normalised text as bits. `bigrams` are its pairs of characters, `words` its Latin words."""
    return _SPOKEN.bits(text, bigrams, words)


def marks(text: str, bigrams: set[str], words: list[str]) -> int:
    """Which thing of its kind a text speaks of, and how far it went, as bits of COLOURS, MAKES, LOOT and the four of force."""
    return _MARKED.bits(text, bigrams, words)
