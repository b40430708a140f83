/** Printable ASCII alone: as wide as it is long. */
const PLAIN = /^[\u0020-\u007e]*$/;
const INVISIBLE = /[\p{Mn}\p{Me}\p{Cf}]/u;
/** Characters that terminals draw two columns wide: East Asian scripts and pictures. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;

const GRAPHEMES = new Intl.Segmenter(undefined, { granularity: 'grapheme' });

/** Columns a text takes in a terminal. */
export function displayWidth(text: string): number {
  if (PLAIN.test(text)) return text.length;
  let width = 0;
  for (const { segment } of GRAPHEMES.segment(text)) {
    const first = String.fromCodePoint(segment.codePointAt(0) ?? 0);
    if (INVISIBLE.test(first)) continue;
    width += WIDE.test(segment) || segment.includes('\ufe0f') ? 2 : 1;
  }
  return width;
}

/**
 * A value's lines as they can be shown: line breaks split, other control characters written as escapes, because
 * terminals obey them.
 */
export function displayLines(text: string): readonly string[] {
  if (PLAIN.test(text)) return [text];
  return text.split('\n').map((line) =>
    line.replace(
      // The range is the point: every control character.
      // oxlint-disable-next-line no-control-regex
      /[\u0000-\u001f\u007f-\u009f]/g,
      (character) => ESCAPES[character] ?? `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
    ),
  );
}

const ESCAPES: Readonly<Record<string, string>> = { '\t': '\\t', '\r': '\\r', '\b': '\\b', '\f': '\\f' };

/** Fills a text up to a width. */
export function pad(text: string, options: { width: number; side: 'left' | 'right' | 'centre' }): string {
  const missing = options.width - displayWidth(text);
  if (missing <= 0) return text;
  switch (options.side) {
    case 'left':
      return ' '.repeat(missing) + text;
    case 'right':
      return text + ' '.repeat(missing);
    case 'centre': {
      const before = Math.floor(missing / 2);
      return ' '.repeat(before) + text + ' '.repeat(missing - before);
    }
  }
}
