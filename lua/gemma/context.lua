--- context.lua: the text around the cursor, as the parts of a prompt.
---
--- gather() reads the buffer, by byte budgets and never as a whole; parts() is pure. The model
--- has no fill-in-the-middle tokens, so the order is least-changing first: rules, what the project
--- says (context/project.lua), file, text further below, text above, text right after the cursor,
--- and last the lines before the cursor as the beginning of the model's own turn, where typing
--- appends.
---
--- The cache keeps the longest common prefix of two prompts. So the windows must not slide with
--- every key: they begin at anchors (extmarks, which move with edits) that stay where they are
--- until the cursor has left a wide margin.

local M = {}

local api = vim.api
local indent = require('gemma.context.indent')
local text_of = require('gemma.context.text')
local ns = api.nvim_create_namespace('gemma.context')

M.BYTES_PER_TOKEN = 3 -- of source code; errs to the small side
local FRAME_TOKENS = 512 -- of the rules, the turns and the names of the parts
local MOUTH_MIN, MOUTH_GOAL, MOUTH_MAX = 50, 120, 1200 -- bytes in the model's mouth
local MOUTH_LINE = 400 -- of a very long line, at first
local NEXT_LINES, NEXT_LINES_MAX, NEXT_BYTES = 8, 24, 400 -- right after the cursor
local LINE_BYTES = 512 -- of the cursor's line, for the filters
local BELOW_LINES = 8 -- for the filters

--- What the filters go by.
---@class gemma.context.Near
---@field fence boolean the model's turn begins with ```language
---@field before_line string
---@field after_line string
---@field below_lines string[]

---@class gemma.Context : gemma.context.Near
---@field project gemma.Project? what stands before the file
---@field scope string? heads of what the text above begins in
---@field path string
---@field language string
---@field indent string "2 spaces" or "tabs"
---@field below string further below the cursor
---@field above string
---@field next string from the cursor on
---@field mouth string the end of the text before the cursor

M.RULES = [[
You are the completion engine of a text editor. The user shows you a file with a hole at the
cursor. Your own turn already begins with the last lines before the cursor: go on from its very
last character and write only what belongs in the hole.

- Keep the file's indentation, names and style exactly.
- Never repeat what stands in <next> or <below>; it is in the file already.
- <notes> are the project's rules for you. <pieces>, <edits> and <declarations> come from other
  places of the project: use what they tell, never copy them.
- Finish the statement or the block that the cursor is in, then end your turn. A few lines at most.
- No explanations, no remarks about the code. When nothing is missing, end your turn at once.

Example: <next> is ")", your turn begins with "local name = vim.fn.expand('%:"; you write "t'" and
end your turn, because the bracket is there already.]]

--- Languages in which ``` can be part of the text, or in which there is no code at all.
local PROSE = {}
local KINDS = [[
  text markdown gitcommit mail help rst tex plaintex context typst asciidoc org norg quarto rmd
  pandoc textile mediawiki vimwiki]]
for ft in KINDS:gmatch('%S+') do
  PROSE[ft] = true
end

---@param language string a 'filetype'; of a compound one the first part counts
---@return boolean
function M.is_prose(language)
  return language == '' or PROSE[language:match('^[^.]*')] == true
end

--- The parts of a prompt that are text around the cursor: fields of a Context, and the tags around them.
M.AROUND = { 'above', 'next', 'below' }

---@param name string
---@param text string
---@return string
local function block(name, text)
  if text == '' then
    return ''
  end
  return ('<%s>\n%s\n</%s>\n\n'):format(name, text, name)
end

--- The prompt. Everything that comes from the buffer is data: it cannot make a control token.
---@param c gemma.Context
---@return gemma.Part[]
function M.parts(c)
  local p = c.project or require('gemma.context.project').EMPTY
  local scope = (c.scope or '') ~= '' and c.scope .. '\n...\n' or ''
  local head = ('File: %s\nLanguage: %s\nIndentation: %s\n\n'):format(c.path, c.language, c.indent)
  return {
    { kind = 'system' },
    { kind = 'text', data = M.RULES },
    { kind = 'user' },
    {
      kind = 'text',
      data = block('notes', p.notes)
        .. block('pieces', p.ring)
        .. block('edits', p.edits)
        .. block('declarations', p.declarations)
        .. head
        .. block('below', c.below)
        .. block('above', c.above ~= '' and scope .. c.above or '')
        .. block('next', c.next)
        .. block('problems', p.diagnostics)
        .. 'Write what stands between <above> and <next>.',
    },
    { kind = 'model' },
    { kind = 'text', data = (c.fence and '```' .. c.language .. '\n' or '') .. c.mouth },
  }
end

--- The concatenated prompt, for tests and logs of sizes.
---@param parts gemma.Part[]
---@return string
function M.flat(parts)
  local out = {}
  for _, p in ipairs(parts) do
    out[#out + 1] = p.data or ('<|' .. p.kind .. '>')
  end
  return table.concat(out)
end

local from_char, to_char, line_len = text_of.from_char, text_of.to_char, text_of.line_len

---@param buf integer
---@param r1 integer
---@param c1 integer
---@param r2 integer
---@param c2 integer
---@return string
local function text(buf, r1, c1, r2, c2)
  if r1 > r2 or (r1 == r2 and c1 >= c2) then
    return ''
  end
  return table.concat(api.nvim_buf_get_text(buf, r1, c1, r2, c2, {}), '\n')
end

---@class gemma.Anchors
---@field above integer? extmark ids
---@field mouth integer?
---@field below integer?
---@field scope string? heads of what the line of `above` stands in
---@field moved table<string, boolean>? which of them were set anew since the last prompt

local anchors = {} ---@type table<integer, gemma.Anchors>
--- Buffers with more tokens than their bytes make believe, by the version of the options they had then.
local dense = {} ---@type table<integer, integer>

---@param buf integer?
---@return boolean
local function is_dense(buf)
  return dense[buf] == require('gemma.config').version
end

---@param buf integer
function M.forget(buf)
  anchors[buf], dense[buf] = nil, nil
  indent.forget(buf)
  if api.nvim_buf_is_valid(buf) then
    api.nvim_buf_clear_namespace(buf, ns, 0, -1)
  end
end

---@param buf integer
---@param name 'above'|'mouth'|'below'
---@return integer? row
---@return integer? col
local function anchor_pos(buf, name)
  local id = anchors[buf] and anchors[buf][name]
  if id then
    local pos = api.nvim_buf_get_extmark_by_id(buf, ns, id, {})
    return pos[1], pos[2]
  end
end

---@param buf integer
---@param name 'above'|'mouth'|'below'
---@param row integer
---@param col integer
local function set_anchor(buf, name, row, col)
  local a = anchors[buf] or {}
  anchors[buf] = a
  a.moved = a.moved or {}
  a.moved[name] = true
  -- Left gravity: text typed at the anchor belongs to the window that begins there.
  a[name] = api.nvim_buf_set_extmark(buf, ns, row, col, {
    id = a[name],
    right_gravity = name == 'below',
    undo_restore = false,
  })
end

--- Where the model's mouth begins: some whole lines, or the end of a very long one.
---@param buf integer
---@param row integer
---@param col integer
---@return integer row
---@return integer col
local function mouth_start(buf, row, col)
  local cursor = api.nvim_buf_get_offset(buf, row) + col
  local r, c = anchor_pos(buf, 'mouth')
  if r and (r < row or (r == row and c <= col)) then
    local bytes = cursor - api.nvim_buf_get_offset(buf, r) - c
    if bytes <= MOUTH_MAX and (bytes >= MOUTH_MIN or (r == 0 and c == 0)) then
      return r, c
    end
  end
  r, c = row, 0
  if col > MOUTH_MAX / 2 then
    c = col - MOUTH_LINE
  else
    while r > 0 and cursor - api.nvim_buf_get_offset(buf, r) < MOUTH_GOAL do
      if cursor - api.nvim_buf_get_offset(buf, r - 1) > MOUTH_MAX / 2 then
        break
      end
      r = r - 1
    end
    -- A huge line above must not leave the mouth empty: its end will do.
    if r > 0 and cursor - api.nvim_buf_get_offset(buf, r) < MOUTH_MIN then
      r = r - 1
      c = math.max(0, line_len(buf, r) - MOUTH_LINE)
    end
  end
  set_anchor(buf, 'mouth', r, c)
  return r, c
end

--- Where the text above begins.
---@param buf integer
---@param row integer start of the mouth
---@param col integer
---@param budget integer bytes
---@return integer row
---@return integer col
local function above_start(buf, row, col, budget)
  local stop = api.nvim_buf_get_offset(buf, row) + col
  local r, c = anchor_pos(buf, 'above')
  if r and (r < row or (r == row and c <= col)) then
    local bytes = stop - api.nvim_buf_get_offset(buf, r) - c
    if bytes <= budget * 1.5 and (bytes >= budget / 2 or (r == 0 and c == 0)) then
      return r, c
    end
  end
  -- The first line from which at most `budget` bytes are left to the mouth.
  local lo, hi = 0, row
  while lo < hi do
    local mid = math.floor((lo + hi) / 2)
    if stop - api.nvim_buf_get_offset(buf, mid) > budget then
      lo = mid + 1
    else
      hi = mid
    end
  end
  r, c = lo, 0
  if r == row and col > budget then
    c = col - budget
  end
  set_anchor(buf, 'above', r, c)
  -- The heads are those of the window's first line, not of the cursor's line, so that they change only with
  -- the window. A head above the window that encloses the cursor encloses that line too.
  local heads = r > 0 and c == 0 and require('gemma.context.heads').heads(buf, r) or {}
  anchors[buf].scope = table.concat(heads, '\n')
  return r, c
end

--- The first line of the text further below, or nil when all that follows fits into <next>.
---@param buf integer
---@param row integer
---@return integer? row
local function below_start(buf, row)
  local last = api.nvim_buf_line_count(buf) - 1
  local r = anchor_pos(buf, 'below')
  if r and r > row and r <= row + NEXT_LINES_MAX and r <= last then
    return r
  end
  if last - row <= NEXT_LINES + 4 then
    return nil
  end
  r = row + NEXT_LINES
  set_anchor(buf, 'below', r, 0)
  return r
end

--- Text from a position on: whole lines up to `limit` bytes and before line `stop`, or the start
--- of a long line.
---@param buf integer
---@param row integer
---@param col integer
---@param limit integer
---@param stop integer
---@return string
local function forward(buf, row, col, limit, stop)
  local start = api.nvim_buf_get_offset(buf, row) + col
  local r = row
  while r + 1 < stop and api.nvim_buf_get_offset(buf, r + 2) - 1 - start <= limit do
    r = r + 1
  end
  local stop_col = line_len(buf, r)
  if r == row then
    stop_col = math.min(stop_col, col + limit)
  end
  return to_char(text(buf, row, col, r, stop_col))
end

---@param is gemma.Indent
---@return string
local function indent_name(is)
  return is.spaces and require('gemma.util').count(is.unit, 'space') or 'tabs'
end

---@class gemma.context.Budget
---@field tokens integer
---@field suffix_tokens integer
---@field project_tokens integer? for what does not come from the buffer; not set is none
---@field quick boolean? reading costs little
---@field bytes integer? per token; not set is BYTES_PER_TOKEN

--- Positions of the cache for what is read, less the longest answer.
---@return integer
local function room()
  local conf = require('gemma.config').get()
  local numbers = require('gemma.engine').numbers()
  local n_ctx = numbers and numbers.n_ctx or 0
  n_ctx = n_ctx > 0 and n_ctx or conf.n_ctx
  local answer = math.max(conf.completion.max_tokens, conf.completion.manual_max_tokens)
  return math.max(n_ctx - answer - FRAME_TOKENS, 128)
end

--- What the options say, for this device, and no more than the cache holds.
---@param buf integer? that is read
---@return gemma.context.Budget
function M.budget(buf)
  local conf = require('gemma.config').get().context
  local gpu = require('gemma.engine').is_gpu()
  local function auto(v, on_gpu, on_cpu)
    return v == 'auto' and (gpu and on_gpu or on_cpu) or v
  end
  local free, slack, bytes = room(), 3 / 4, nil
  if is_dense(buf) then
    -- No token is less than a byte. The text above may grow by half before its window moves.
    free = math.max(free - require('gemma.context.notes').MAX_BYTES, 128)
    slack, bytes = 2 / 3, 1
  end
  local project = math.min(auto(conf.project_tokens, 2048, 256), math.floor(free / 3))
  return {
    tokens = math.min(auto(conf.tokens, 4096, 1024), math.floor((free - project) * slack)),
    suffix_tokens = conf.suffix_tokens,
    project_tokens = project,
    quick = gpu,
    bytes = bytes,
  }
end

--- A prompt of this buffer was too long for the cache: digits, for example, are a token each. From now on
--- as many bytes are read as fit in any case.
---@param buf integer
---@return boolean news whether the next one will be shorter for it
function M.mark_dense(buf)
  if is_dense(buf) or not api.nvim_buf_is_valid(buf) then
    return false
  end
  M.forget(buf)
  dense[buf] = require('gemma.config').version
  return true
end

--- Reads the cursor's line and those right below it.
---@param buf integer
---@param row integer 0-based
---@param col integer bytes
---@return gemma.context.Near
function M.near(buf, row, col)
  local stop = math.min(line_len(buf, row), col + LINE_BYTES)
  local below_lines = {}
  for r = row + 1, math.min(row + BELOW_LINES, api.nvim_buf_line_count(buf) - 1) do
    below_lines[#below_lines + 1] = text(buf, r, 0, r, math.min(line_len(buf, r), LINE_BYTES))
  end
  return {
    fence = not M.is_prose(vim.bo[buf].filetype),
    before_line = from_char(text(buf, row, math.max(0, col - LINE_BYTES), row, col)),
    after_line = text(buf, row, col, row, stop),
    below_lines = below_lines,
  }
end

--- Reads what a completion at this place needs. Costs a few line reads, whatever the size of the
--- buffer and of its lines.
---@param buf integer
---@param row integer 0-based
---@param col integer bytes
---@param budget gemma.context.Budget
---@return gemma.Context
function M.gather(buf, row, col, budget)
  local bytes = budget.bytes or M.BYTES_PER_TOKEN
  local total = budget.tokens * bytes
  local suffix = math.min(budget.suffix_tokens * bytes, math.floor(total / 4))
  local n_lines = api.nvim_buf_line_count(buf)

  local mr, mc = mouth_start(buf, row, col)
  local a = anchors[buf] or {}
  anchors[buf] = a
  local ar, ac = above_start(buf, mr, mc, math.max(0, total - suffix - MOUTH_GOAL))
  local br = below_start(buf, row)

  local next_limit = math.min(NEXT_BYTES, suffix)
  local name = api.nvim_buf_get_name(buf)
  local language = vim.bo[buf].filetype
  local below = ''
  if br and suffix > next_limit then
    below = forward(buf, br, 0, suffix - next_limit, n_lines)
  end
  local above = from_char(text(buf, ar, ac, mr, mc))
  local after = suffix > 0 and forward(buf, row, col, next_limit, br or n_lines) or ''
  local mouth = from_char(text(buf, mr, mc, row, col))
  local project
  if (budget.project_tokens or 0) > 0 then
    local function near()
      return table.concat({ above .. mouth .. after, below }, '\n')
    end
    -- The text below stands before the text above: when it moved, all of the text is read anew.
    local moved = a.moved or {}
    project = require('gemma.context.project').parts(buf, row, near, {
      bytes = budget.project_tokens * bytes,
      quick = budget.quick == true,
      moved = moved.below or (not br and moved.above) or false,
    })
  end
  a.moved = nil
  local c = M.near(buf, row, col) --[[@as gemma.Context]]
  c.project, c.scope = project, a.scope
  c.path = text_of.name(name)
  c.language = language == '' and 'text' or language
  c.indent = indent_name(indent.of(buf))
  c.below, c.above, c.next, c.mouth = below, above, after, mouth
  return c
end

--- The same from two strings, for callers that have no buffer.
---@param prefix string
---@param suffix string
---@param opts { path: string?, language: string?, indent: string? }
---@return gemma.Context
function M.from_strings(prefix, suffix, opts)
  local language = opts.language or ''
  local cut = #prefix - MOUTH_LINE
  local at = cut > 1 and (prefix:find('\n', cut, true) or cut - 1) or 0
  local rest = vim.split(suffix, '\n', { plain = true })
  local after = table.remove(rest, 1) or ''
  return {
    path = opts.path or '(no name)',
    language = language == '' and 'text' or language,
    indent = opts.indent or 'as in the file',
    below = '',
    above = from_char(prefix:sub(1, at)),
    next = suffix,
    mouth = from_char(prefix:sub(at + 1)),
    fence = not M.is_prose(language),
    before_line = prefix:match('[^\n]*$'),
    after_line = after,
    below_lines = vim.list_slice(rest, 1, BELOW_LINES),
  }
end

return M
