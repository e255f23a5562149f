/** What simulated people are called and say, in the scripts that people write. */
import { type SeededRandom } from './seeded-random.ts';

const LATIN = ['Mira', 'Jonas', 'Zoë', 'Łucja', 'Anders', 'Ngozi', 'Tomás', 'Quỳnh', 'Wren', 'Ilse', 'Óscar', 'Farah'];
const LATIN_SURNAMES = ['Okafor', 'Lindqvist', 'Sørensen', 'Novák', 'Ó Briain', 'da Silva', 'Weiß', 'Tran', 'Haddad'];
const OTHER_SCRIPTS = [
  'Дарья',
  'Олексій',
  'Ελένη Παππά',
  'Նարեկ',
  'ნინო',
  'נועה',
  'ليلى حداد',
  'آرش',
  'आरव शर्मा',
  'தமிழ்செல்வி',
  'สมชาย',
  '小林さくら',
  'ユウタ',
  '王小明',
  '김하늘',
];
/** What people add to names: pronouns, notes, emoji of one and of several code points, and what has to be escaped. */
const NAME_TAILS = [' 🦊', ' (she/her)', ' [away]', ' 👩🏽‍🚀', ' "zed"', ' \\o/', ' 🏳️‍🌈', ' | ops', ' ☕'];

const PLAIN_NAMES = ['mira', 'jonas', 'zoe', 'lucja', 'anders', 'ngozi', 'tomas', 'wren', 'ilse', 'farah', 'kenji'];

const SENTENCES = [
  'Has anybody tried the new release on a small machine yet?',
  'I think the second half of that log is what matters.',
  'Works here since this morning, thank you all.',
  'Could you paste the whole error, please? The last line alone says little.',
  'Guten Abend zusammen, ich hätte eine kurze Frage zur Einrichtung.',
  '¿Alguien más ve esto con la versión nueva?',
  'Ça marche chez moi, mais seulement après un redémarrage.',
  'Всем привет! Обновление прошло без проблем.',
  '这个版本快多了，谢谢。',
  '昨日から安定しています。',
  'شكرا جزيلا، تم حل المشكلة.',
  'It is the same three lines every time:\n  connect\n  wait\n  give up',
  'That reminds me: we meet on Thursday, as always.',
  '👍',
];

const TOPICS = [
  'Questions and answers. Be kind, search first, paste logs elsewhere.',
  'Everything about running it yourself — help, hints and war stories.',
  'Next meeting: Thursday, 18:00 UTC',
  'Welcome! New here? Read the guide before you ask; then ask.',
];

const ROOM_NAMES = ['harbour', 'lighthouse', 'orchard', 'observatory', 'workshop', 'library', 'greenhouse', 'foundry'];

const LOWER_AND_DIGITS = 'abcdefghijklmnopqrstuvwxyz0123456789';
const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';

/** A local part that nobody else has: `ordinal` tells apart who has the same name. */
export function localpart(random: SeededRandom, ordinal: number): string {
  return `${random.pick(PLAIN_NAMES)}${random.pick(['', '.', '-', '_'])}${ordinal.toString(36)}`;
}

/** A name that a person might choose. */
export function displayName(random: SeededRandom): string {
  const name = random.chance(0.3)
    ? random.pick(OTHER_SCRIPTS)
    : random.chance(0.5)
      ? `${random.pick(LATIN)} ${random.pick(LATIN_SURNAMES)}`
      : random.pick(LATIN);
  return random.chance(0.2) ? name + random.pick(NAME_TAILS) : name;
}

/** As long as media ids of Synapse. */
export function mediaUrl(random: SeededRandom, serverName: string): string {
  return `mxc://${serverName}/${random.text(24, LETTERS)}`;
}

/** A message of everyday length. */
export function messageText(random: SeededRandom): string {
  const sentences = [random.pick(SENTENCES)];
  while (random.chance(0.35)) sentences.push(random.pick(SENTENCES));
  return sentences.join(' ');
}

/** A topic that a room might have. */
export function topicText(random: SeededRandom): string {
  return `${random.pick(TOPICS)} · ${random.text(6, LOWER_AND_DIGITS)}`;
}

/** The name of the n-th room, unlike those of all others; fit for an alias. */
export function roomName(roomNo: number): string {
  const round = Math.floor(roomNo / ROOM_NAMES.length);
  const name = ROOM_NAMES[roomNo % ROOM_NAMES.length] as string;
  return round === 0 ? name : `${name}-${String(round + 1)}`;
}
