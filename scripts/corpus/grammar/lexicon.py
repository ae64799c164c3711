"""The nouns, adjectives, verbs and adverbials of the grammar, with the forms that no rule gives.

Each line of a table is one word. Blanks separate the columns, "-" is an empty column, a stroke separates the forms of
one word, and a comma separates classes. The classes of a noun say what it can mean. An adjective or a verb names the
classes of the nouns that it goes with, so that nobody drinks a newspaper.
"""

from __future__ import annotations

import re

Pair = tuple[str, str]  # English, German
EMPTY: Pair = ("", "")

# English[/plural]  German/plural  gender  ending of the genitive  classes
# A plural "-" says that there is none. The endings "n" and "en" mark weak nouns, which have them in all cases but the
# nominative (den Jungen). Classes: person, animal; text (to read), writing (text that anybody writes), print (text that
# shops sell); food, foodstuff (food without a plural), drink; thing, item (a thing to carry), closable, appliance (a
# thing to turn on), machine (a thing to repair), surface (one is on it); clothes; place, inside (one is in it), beside
# (one is at it), building.
NOUN_TABLE = """
man/men         Mann/Männer                       m  es  person
woman/women     Frau/Frauen                       f  -   person
boy             Junge/Jungen                      m  n   person
girl            Mädchen/Mädchen                   n  s   person
child/children  Kind/Kinder                       n  es  person
teacher         Lehrer/Lehrer                     m  s   person
doctor          Arzt/Ärzte                        m  es  person
student         Student/Studenten                 m  en  person
neighbor        Nachbar/Nachbarn                  m  n   person
friend          Freund/Freunde                    m  es  person
uncle           Onkel/Onkel                       m  s   person
brother         Bruder/Brüder                     m  s   person
sister          Schwester/Schwestern              f  -   person
mother          Mutter/Mütter                     f  -   person
father          Vater/Väter                       m  s   person
king            König/Könige                      m  s   person
queen           Königin/Königinnen                f  -   person
farmer          Bauer/Bauern                      m  n   person
thief/thieves   Dieb/Diebe                        m  es  person
actress         Schauspielerin/Schauspielerinnen  f  -   person
guest           Gast/Gäste                        m  es  person
dog             Hund/Hunde                        m  es  animal
cat             Katze/Katzen                      f  -   animal
horse           Pferd/Pferde                      n  es  animal
bird            Vogel/Vögel                       m  s   animal
mouse/mice      Maus/Mäuse                        f  -   animal
cow             Kuh/Kühe                          f  -   animal
goose/geese     Gans/Gänse                        f  -   animal
lion            Löwe/Löwen                        m  n   animal
bear            Bär/Bären                         m  en  animal
book            Buch/Bücher                       n  es  text,writing,print
letter          Brief/Briefe                      m  es  text,writing
newspaper       Zeitung/Zeitungen                 f  -   text,print
poem            Gedicht/Gedichte                  n  es  text,writing
apple           Apfel/Äpfel                       m  s   food
cake            Kuchen/Kuchen                     m  s   food
egg             Ei/Eier                           n  s   food
orange          Orange/Orangen                    f  -   food
potato          Kartoffel/Kartoffeln              f  -   food
sausage         Wurst/Würste                      f  -   food
bread/-         Brot/-                            n  es  foodstuff
cheese/-        Käse/-                            m  s   foodstuff
water/-         Wasser/-                          n  s   drink
milk/-          Milch/-                           f  -   drink
coffee/-        Kaffee/-                          m  s   drink
tea/-           Tee/-                             m  s   drink
beer/-          Bier/-                            n  es  drink
lamp            Lampe/Lampen                      f  -   thing,item,appliance
key             Schlüssel/Schlüssel               m  s   thing,item
ball            Ball/Bälle                        m  es  thing,item
bag             Tasche/Taschen                    f  -   thing,item,closable
bicycle         Fahrrad/Fahrräder                 n  es  thing,item,machine
picture         Bild/Bilder                       n  es  thing,item
clock           Uhr/Uhren                         f  -   thing,item,machine
chair           Stuhl/Stühle                      m  es  thing,item,surface
knife/knives    Messer/Messer                     n  s   thing,item
cup             Tasse/Tassen                      f  -   thing,item
gift            Geschenk/Geschenke                n  es  thing,item,closable
flower          Blume/Blumen                      f  -   thing,item
computer        Computer/Computer                 m  s   thing,item,appliance,machine
suitcase        Koffer/Koffer                     m  s   thing,item,closable
box             Kiste/Kisten                      f  -   thing,item,closable
radio/radios    Radio/Radios                      n  s   thing,item,appliance,machine
car             Auto/Autos                        n  s   thing,machine
table           Tisch/Tische                      m  es  thing,surface
sofa            Sofa/Sofas                        n  s   thing,surface
window          Fenster/Fenster                   n  s   thing,closable
door            Tür/Türen                         f  -   thing,closable
hat             Hut/Hüte                          m  es  clothes
coat            Mantel/Mäntel                     m  s   clothes
shirt           Hemd/Hemden                       n  es  clothes
shoe            Schuh/Schuhe                      m  s   clothes
garden          Garten/Gärten                     m  s   place,inside
kitchen         Küche/Küchen                      f  -   place,inside
house           Haus/Häuser                       n  es  place,inside,building
school          Schule/Schulen                    f  -   place,inside,building
city            Stadt/Städte                      f  -   place,inside
park            Park/Parks                        m  s   place,inside
room            Zimmer/Zimmer                     n  s   place,inside
office          Büro/Büros                        n  s   place,inside
museum          Museum/Museen                     n  s   place,inside,building
church          Kirche/Kirchen                    f  -   place,inside,building
station         Bahnhof/Bahnhöfe                  m  s   place,beside
river           Fluss/Flüsse                      m  es  place,beside
lake            See/Seen                          m  s   place,beside
"""

# English  German[/stem before an ending]  position  classes
# An adjective at the position "first" may stand before a colour: "a small red lamp".
ADJECTIVE_TABLE = """
old          alt           first   living,text,foodstuff,thing,clothes,place
young        jung          first   living
big          groß          first   animal,food,thing,place
small        klein         first   living,food,thing,clothes,place
new          neu           first   text,thing,clothes,place
beautiful    schön         first   animal,thing,clothes,place
black        schwarz       colour  animal,thing,clothes
white        weiß          colour  animal,thing,clothes
red          rot           colour  thing,clothes
blue         blau          colour  thing,clothes
good         gut           -       person,text,groceries,clothes
friendly     freundlich    -       living
clever       klug          -       living
sad          traurig       -       living,writing
tired        müde          -       living
hungry       hungrig       -       living
rich         reich         -       person
famous       berühmt       -       person,text,place
expensive    teuer/teur    -       text,groceries,thing,clothes
dirty        schmutzig     -       animal,thing,clothes,place
fresh        frisch        -       groceries
cold         kalt          -       food,drink
warm         warm          -       food,drink
dark         dunkel/dunkl  -       place
interesting  interessant   -       text,place
strange      seltsam       -       living,text,thing,clothes
long         lang          -       text
"""

# English[/past/participle]  German/third person/participle  frame  subjects  extras  objects
# In English, "pick|up" lets a pronoun in ("picks him up"), and "look_at" does not. In German, the prefix of
# "auf|machen" is separable, and "*" marks a perfect with "sein". The frame says which objects the verb has: none, one
# in a case, "give" (a dative and an accusative), or preposition:case. The extras are phrases that may be added: a
# place, "with" or "for" somebody. The extra "state" marks a verb that is not tied to a time.
VERB_TABLE = """
read/read/read               lesen/liest/gelesen                  acc      person  place,with      text
write/wrote/written          schreiben/schreibt/geschrieben       acc      person  place,for       writing
buy/bought/bought            kaufen/kauft/gekauft                 acc      person  place,for       goods
find/found/found             finden/findet/gefunden               acc      person  place           belongings
look_for                     suchen/sucht/gesucht                 acc      person  place           living,belongings
see/saw/seen                 sehen/sieht/gesehen                  acc      living  place           living,thing,building
love                         lieben/liebt/geliebt                 acc      person  state           living
know/knew/known              kennen/kennt/gekannt                 acc      person  state           person,building
visit                        besuchen/besucht/besucht             acc      person  with            person,building
eat/ate/eaten                essen/isst/gegessen                  acc      living  place           food,foodstuff
drink/drank/drunk            trinken/trinkt/getrunken             acc      person  place,with      drink
paint                        malen/malt/gemalt                    acc      person  place,for       living
wash                         waschen/wäscht/gewaschen             acc      person  place           clothes
forget/forgot/forgotten      vergessen/vergisst/vergessen         acc      person  -               belongings
repair                       reparieren/repariert/repariert       acc      person  place,with      machine
ask                          fragen/fragt/gefragt                 acc      person  -               person
steal/stole/stolen           stehlen/stiehlt/gestohlen            acc      person  -               print,item,machine
have/had/had                 haben/hat/gehabt                     acc      person  state           animal,item,machine
open                         auf|machen/macht/aufgemacht          acc      person  -               closable
close                        zu|machen/macht/zugemacht            acc      person  -               closable
turn|on                      ein|schalten/schaltet/eingeschaltet  acc      person  -               appliance
turn|off                     aus|schalten/schaltet/ausgeschaltet  acc      person  -               appliance
call                         an|rufen/ruft/angerufen              acc      person  -               person
invite                       ein|laden/lädt/eingeladen            acc      person  -               person
pick|up                      ab|holen/holt/abgeholt               acc      person  -               person
look_at                      an|sehen/sieht/angesehen             acc      living  place           living,thing
bring|along/brought/brought  mit|bringen/bringt/mitgebracht       acc      person  for             animal,groceries,item
put|on/put/put               an|ziehen/zieht/angezogen            acc      person  -               clothes
sleep/slept/slept            schlafen/schläft/geschlafen          -        living  place           -
sing/sang/sung               singen/singt/gesungen                -        person  place,with,for  -
dance                        tanzen/tanzt/getanzt                 -        person  place,with,for  -
work                         arbeiten/arbeitet/gearbeitet         -        person  place,with,for  -
play                         spielen/spielt/gespielt              -        living  place,with      -
run/ran/run                  laufen/läuft/*gelaufen               -        living  place           -
get|up/got/gotten            auf|stehen/steht/*aufgestanden       -        person  -               -
fall_asleep/fell/fallen      ein|schlafen/schläft/*eingeschlafen  -        living  place           -
arrive                       an|kommen/kommt/*angekommen          -        person  with            -
come|back/came/come          zurück|kommen/kommt/*zurückgekommen  -        living  with            -
help                         helfen/hilft/geholfen                dat      person  place           person
thank                        danken/dankt/gedankt                 dat      person  -               person
follow                       folgen/folgt/*gefolgt                dat      living  -               living
listen_to                    zu|hören/hört/zugehört               dat      person  place           person
give/gave/given              geben/gibt/gegeben                   give     person  -               gifts
show/showed/shown            zeigen/zeigt/gezeigt                 give     person  place           animal,belongings
send/sent/sent               schicken/schickt/geschickt           give     person  -               belongings
wait_for                     warten/wartet/gewartet               auf:acc  person  place           person
talk_to                      sprechen/spricht/gesprochen          mit:dat  person  place           person
dream_of                     träumen/träumt/geträumt              von:dat  person  -               living
think_of/thought/thought     denken/denkt/gedacht                 an:acc   person  -               living
"""
COPULA_ROW = "be/was/been sein/ist/*gewesen - living,text,food,thing,clothes,place state -"

# The present and the past share no adverbial: it alone tells "I read the book" from "ich habe gelesen".
TIMES = {
    "present": (
        ("today", "heute"),
        ("every day", "jeden Tag"),
        ("in the evening", "am Abend"),
        ("on Sundays", "sonntags"),
    ),
    "past": (("yesterday", "gestern"), ("last week", "letzte Woche"), ("this morning", "heute Morgen")),
    "future": (("today", "heute"), ("tomorrow", "morgen"), ("next week", "nächste Woche"), ("now", "jetzt")),
}
MID_ADVERBS = {
    "present": (("often", "oft"), ("always", "immer"), ("never", "nie"), ("rarely", "selten")),
    "perfect": (("already", "schon"), ("never", "nie"), ("often", "oft")),
}

# Names that stand for several classes.
CLASS_GROUPS = {
    "living": ("person", "animal"),
    "belongings": ("text", "item", "clothes"),
    "gifts": ("print", "food", "item", "clothes"),
    "groceries": ("food", "foodstuff", "drink"),
    "goods": ("food", "foodstuff", "drink", "print", "item", "machine", "clothes"),
}


def rows(table: str) -> list[list[str]]:
    """Return the columns of each line of a table that is not empty; "-" has become the empty text."""
    return [["" if column == "-" else column for column in line.split()] for line in table.splitlines() if line]


def class_set(names: str) -> frozenset[str]:
    """Return the classes that a column names; a name in ``CLASS_GROUPS`` has become its members."""
    return frozenset(member for name in names.split(",") if name for member in CLASS_GROUPS.get(name, (name,)))


def s_form(word: str) -> str:
    """Return an English word with its ending -s: the plural of a noun or the third person of a verb."""
    if word == "have":
        return "has"
    if re.search(r"(s|x|sh|ch|o)$", word):
        return word + "es"
    return re.sub(r"(?<=[^aeiou])y$", "ie", word) + "s"


def past_form(word: str) -> str:
    """Return the regular past of an English verb."""
    return re.sub(r"(?<=[^aeiou])y$", "i", word).removesuffix("e") + "ed"


class Noun:
    """A noun in both languages; the arguments are the columns of ``NOUN_TABLE``."""

    def __init__(self, en: str, de: str, gender: str, ending: str, classes: str) -> None:
        self.en, _, plural = en.partition("/")
        self.plural = plural or s_form(self.en)
        self.de, _, self.de_plural = de.partition("/")
        self.gender, self.ending, self.classes = gender, ending, class_set(classes)
        self.mass = self.plural == "-"

    def german(self, number: str, case: str) -> str:
        """Return the German form of a number, s (singular) or p (plural), and a case, nom, acc, dat or gen."""
        if number == "p":
            return self.de_plural + "n" if case == "dat" and self.de_plural[-1] not in "ns" else self.de_plural
        has_ending = case != "nom" if self.ending in ("n", "en") else case == "gen"
        return self.de + self.ending if has_ending else self.de


class Adjective:
    """An adjective in both languages; the arguments are the columns of ``ADJECTIVE_TABLE``."""

    def __init__(self, en: str, de: str, position: str, classes: str) -> None:
        self.en, self.position, self.classes = en, position, class_set(classes)
        self.de, _, stem = de.partition("/")
        self.stem = stem or self.de.removesuffix("e")


class Verb:
    """A verb in both languages; the arguments are the columns of ``VERB_TABLE``."""

    def __init__(self, en: str, de: str, frame: str, subjects: str, extras: str, objects: str) -> None:
        base, *forms = en.split("/")
        self.en, sign, self.tail = re.fullmatch(r"(\w+?)(?:([|_])(\w+))?", base).groups(default="")
        self.movable = sign == "|"  # the tail may follow a pronoun
        self.past, self.participle = forms or [past_form(self.en)] * 2
        infinitive, self.third, participle = de.split("/")
        self.prefix, _, self.de = infinitive.rpartition("|")
        self.auxiliary = "sein" if participle.startswith("*") else "haben"
        self.de_participle = participle.removeprefix("*")
        self.frame, self.extras = frame, extras.split(",")
        self.subjects, self.objects = class_set(subjects), class_set(objects)


NOUNS = {noun.en: noun for noun in (Noun(*row) for row in rows(NOUN_TABLE))}
ADJECTIVES = {adjective.en: adjective for adjective in (Adjective(*row) for row in rows(ADJECTIVE_TABLE))}
VERBS = {row[0].split("/")[0]: Verb(*row) for row in rows(VERB_TABLE)}  # with the sign: "turn|on", "turn|off"
ALL_VERBS = tuple(VERBS.values())
EVENT_VERBS = tuple(verb for verb in ALL_VERBS if "state" not in verb.extras)
COPULA = Verb(*rows(COPULA_ROW)[0])
