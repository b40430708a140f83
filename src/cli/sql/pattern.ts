/** A name pattern of the describing commands, as conditions for LIKE. */
export interface NamePattern {
  readonly schema: string | undefined;
  readonly name: string;
}

/**
 * Reads `orders`, `app.ord*`, `"Weird.Name"`: unquoted letters are folded to lower case, `*` and `?` stand for any text and
 * any character outside quotes, a dot divides schema and name.
 */
export function parsePattern(text: string): NamePattern {
  const parts: string[] = [''];
  let isQuoted = false;
  for (let index = 0; index < text.length; index += 1) {
    const character = text[index] ?? '';
    const last = parts.length - 1;
    if (character === '"') {
      if (isQuoted && text[index + 1] === '"') {
        parts[last] += '"';
        index += 1;
      } else {
        isQuoted = !isQuoted;
      }
    } else if (!isQuoted && character === '.') {
      parts.push('');
    } else if (!isQuoted && (character === '*' || character === '?')) {
      parts[last] += character === '*' ? '%' : '_';
    } else {
      const folded = isQuoted ? character : character.toLowerCase();
      parts[last] += folded.replace(/[%_\\]/, (special) => `\\${special}`);
    }
  }
  return { schema: parts.length > 1 ? parts.at(-2) : undefined, name: parts.at(-1) ?? '' };
}
