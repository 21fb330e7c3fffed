--- config.lua: every option, once: type, default, description.
---
--- Owns the schema and the merged result. Validation, :checkhealth and the option section of
--- doc/gemma.txt come from this table, so an option that is not here does not exist.
--- Depends on nothing in the plugin.

local M = {}

---@class gemma.config.Type
---@field text string how the help file names it
---@field ok fun(v: any): boolean
---@field is_map boolean? merged key by key into its default
---@field is_added boolean? added to its default

---@class gemma.config.Option
---@field name string dotted path below vim.g.gemma
---@field type gemma.config.Type
---@field default any nil where "not set" is the default
---@field desc string one paragraph of help text

local T = {}

T.string = {
  text = 'string',
  ok = function(v)
    return type(v) == 'string'
  end,
}
T.boolean = {
  text = 'boolean',
  ok = function(v)
    return type(v) == 'boolean'
  end,
}
T.fn = {
  text = 'function',
  ok = function(v)
    return vim.is_callable(v)
  end,
}

---@param min integer
---@param max integer
---@return gemma.config.Type
function T.integer(min, max)
  return {
    text = ('integer %d..%d'):format(min, max),
    ok = function(v)
      return type(v) == 'number' and v % 1 == 0 and v >= min and v <= max
    end,
  }
end

---@param min number
---@param max number
---@return gemma.config.Type
function T.number(min, max)
  return {
    text = ('number %g..%g'):format(min, max),
    ok = function(v)
      return type(v) == 'number' and v >= min and v <= max
    end,
  }
end

---@param ... string
---@return gemma.config.Type
function T.choice(...)
  local choices = { ... }
  return {
    text = table.concat(vim.tbl_map(vim.inspect, choices), ' | '):gsub('"', "'"),
    ok = function(v)
      return vim.tbl_contains(choices, v)
    end,
  }
end

---@param ... gemma.config.Type
---@return gemma.config.Type
function T.any(...)
  local types = { ... }
  local texts = {}
  for _, t in ipairs(types) do
    texts[#texts + 1] = t.text
  end
  return {
    text = table.concat(texts, ' | '),
    ok = function(v)
      for _, t in ipairs(types) do
        if t.ok(v) then
          return true
        end
      end
      return false
    end,
  }
end

--- A list replaces its default.
---@param of gemma.config.Type
---@return gemma.config.Type
function T.list(of)
  return {
    text = 'list of ' .. of.text,
    ok = function(v)
      if type(v) ~= 'table' then
        return false
      end
      for k, e in pairs(v) do
        if type(k) ~= 'number' or not of.ok(e) then
          return false
        end
      end
      return true
    end,
  }
end

--- A map is merged key by key into its default; everything else replaces it.
---@param of gemma.config.Type
---@return gemma.config.Type
function T.map(of)
  return {
    text = 'table of ' .. of.text,
    is_map = true,
    ok = function(v)
      if type(v) ~= 'table' then
        return false
      end
      for k, e in pairs(v) do
        if type(k) ~= 'string' or not of.ok(e) then
          return false
        end
      end
      return true
    end,
  }
end

--- A list that is added to its default: `!x` takes an x of that out.
T.additions = setmetatable({ is_added = true }, { __index = T.list(T.string) })

T.device = {
  text = "'auto' | 'cpu' | 'vulkan' | 'vulkan:n'",
  ok = function(v)
    local named = v == 'auto' or v == 'cpu' or v == 'vulkan'
    return named or (type(v) == 'string' and v:match('^vulkan:%d+$') ~= nil)
  end,
}

M.types = T

local AUTO = T.choice('auto')
local TOOL = T.any(T.string, T.list(T.string))

---@type gemma.config.Option[]
M.schema = {
  {
    name = 'model_path',
    type = T.string,
    desc = [[The model file (GGUF). When not set, the newest `*.gguf` in
stdpath('data')/gemma is taken; files whose name begins with `mmproj` are
passed over. Without any it is the toy that comes with the plugin.]],
  },
  {
    name = 'mmproj_path',
    type = T.string,
    desc = [[The file with the weights for pictures and sounds (GGUF). When not set,
`mmproj*.gguf` beside the model.]],
  },
  {
    name = 'embedded',
    type = T.boolean,
    default = true,
    desc = [[Whether the small model that comes with the plugin (|gemma-embedded|) is
used while there is no other.]],
  },
  {
    name = 'lib_path',
    type = T.string,
    desc = [[The native library. When not set, build/libgemma.so in the plugin's own
folder.]],
  },
  {
    name = 'device',
    type = T.device,
    default = 'auto',
    desc = [[Where the model runs. Changed at run time with `:Gemma device`. 'auto' is
the first GPU that Vulkan has, discrete before integrated, with as many
layers as its free memory holds; without a GPU it is the CPU.]],
  },
  {
    name = 'load',
    type = T.choice('insert', 'startup', 'manual'),
    default = 'insert',
    desc = [[When the model is loaded: on the first Insert mode in a buffer where ghost
text is allowed, after start-up, or only by `:Gemma load` and by commands
that need it. After GPU work that ended Neovim, only by those.]],
  },
  {
    name = 'unload_idle',
    type = T.integer(0, 31536000),
    default = 900,
    desc = [[Seconds without use after which the memory of the model is given back;
half of that while Neovim does not have the focus. The next use loads it
again. 0 keeps it.]],
  },
  {
    name = 'shared',
    type = T.choice('borrow', 'cpu', 'off', 'own'),
    default = 'borrow',
    desc = [[What a second Neovim does when another one has the model: 'borrow' uses
that one's (|gemma-two|), 'cpu' loads its own on the CPU, 'off' does
without, 'own' loads its own as if there were no other.]],
  },
  {
    name = 'threads',
    type = T.integer(1, 1024),
    desc = [[Compute threads. When not set, the number of physical cores less one.
What is read ahead while you wait for nothing is for as many threads of a
lower priority: it gives way to whatever else the machine does.]],
  },
  {
    name = 'n_ctx',
    type = T.integer(512, 262144),
    default = 8192,
    desc = [[Positions in each cache. Ghost text has one, conversations have one, and
more are made when they are first needed: for other suggestions, edits
beside a conversation, dictation, other plugins and other Neovims. More
positions cost memory.]],
  },
  {
    name = 'battery',
    type = T.choice('same', 'slow', 'manual', 'off'),
    default = 'slow',
    desc = [[What changes when the machine runs on battery. 'slow': three times the
delay, suggestions of one line, and nothing is worked on ahead of time.
'manual': ghost text only when asked for. 'off': none. 'same': nothing.
Known on Linux only; looked at when you begin to type, at most every 30
seconds.]],
  },
  {
    name = 'completion.auto',
    type = T.any(T.boolean, AUTO),
    default = 'auto',
    desc = [[Whether ghost text comes by itself. 'auto': yes, until the measured speed
says that the first characters would take longer than 700 ms; then it is
manual (|gemma-key-ask|), and says so once.]],
  },
  {
    name = 'completion.delay',
    type = T.any(T.integer(0, 10000), AUTO),
    default = 'auto',
    desc = [[Milliseconds without a key before the model starts to write. 'auto' is 40
on a GPU, or with a model that writes 200 tokens a second; otherwise it is
a little more than the time you usually leave between two keys, and from
100 to 400.]],
  },
  {
    name = 'completion.first_paint',
    type = T.integer(0, 10000),
    default = 250,
    desc = [[Ghost text grows by whole lines. When a line takes longer than this many
milliseconds after its first token, the words that are there are shown
and the line grows by words.]],
  },
  {
    name = 'completion.max_lines',
    type = T.integer(1, 100),
    default = 8,
    desc = [[Longest suggestion, in lines. 1 gives single-line suggestions.]],
  },
  {
    name = 'completion.max_tokens',
    type = T.integer(1, 4096),
    default = 96,
    desc = [[Longest suggestion, in tokens, when it comes by itself.]],
  },
  {
    name = 'completion.manual_max_tokens',
    type = T.integer(1, 4096),
    default = 256,
    desc = [[Longest suggestion, in tokens, when it was asked for.]],
  },
  {
    name = 'completion.min_chars',
    type = T.integer(1, 100),
    default = 3,
    desc = [[Shorter suggestions do not come by themselves. Blanks are not counted.]],
  },
  {
    name = 'completion.max_line_suffix',
    type = T.integer(0, 1000),
    default = 8,
    desc = [[With more characters than this to the right of the cursor nothing comes by
itself. Closing brackets and quotes at the end of the line do not count.]],
  },
  {
    name = 'completion.menu',
    type = T.any(T.choice('selected'), T.boolean),
    default = 'selected',
    desc = [[Hide ghost text beside a completion menu, Neovim's own or that of
blink.cmp or nvim-cmp: 'selected' when you have selected an entry (in
nvim-cmp one whose text is put in), true whenever the menu is open, false
never.]],
  },
  {
    name = 'completion.candidates',
    type = T.integer(1, 9),
    default = 3,
    desc = [[How many suggestions |gemma-key-next| goes through at one place. All but
the first are made when they are asked for, from the same cache; the first
use takes memory for one more cache.]],
  },
  {
    name = 'completion.min_confidence',
    type = T.number(0, 1),
    default = 0,
    desc = [[A suggestion ends before the first token that the model gives less than
this probability. 0 lets all of them through; with 0.1 suggestions are
shorter and surer.]],
  },
  {
    name = 'completion.in_comments',
    type = T.boolean,
    default = true,
    desc = [[Ghost text in comments. When false it has to be asked for there.]],
  },
  {
    name = 'completion.in_macros',
    type = T.boolean,
    default = false,
    desc = [[Ghost text while a macro is recorded. While one is executed it never
comes, and a macro holds the keys that were pressed, not the text that was
accepted: typing through is repeated, accepting is not.]],
  },
  {
    name = 'context.tokens',
    type = T.any(T.integer(256, 131072), AUTO),
    default = 'auto',
    desc = [[About how many tokens of the buffer a completion may read. 'auto' is 1024
on the CPU and 4096 on a GPU.]],
  },
  {
    name = 'context.suffix_tokens',
    type = T.integer(0, 65536),
    default = 512,
    desc = [[How many of these may come from below the cursor; never more than a
quarter.]],
  },
  {
    name = 'context.project_tokens',
    type = T.any(T.integer(0, 65536), AUTO),
    default = 'auto',
    desc = [[About how many tokens a completion may read beyond the buffer: pieces of
other files, edits, declarations. 0 turns all of it off. 'auto' is 2048 on
a GPU and 256 on the CPU, where reading is slow: declarations, but hardly
a piece of a file. See |gemma-context|.]],
  },
  {
    name = 'context.ring_chunks',
    type = T.integer(0, 64),
    default = 16,
    desc = [[How many pieces of other files are kept; 0 keeps none.]],
  },
  {
    name = 'context.chunk_lines',
    type = T.integer(8, 512),
    default = 64,
    desc = [[Lines of a piece, at most.]],
  },
  {
    name = 'context.edits',
    type = T.boolean,
    default = true,
    desc = [[Use what was changed in other files in this session, saved or not.]],
  },
  {
    name = 'context.lsp',
    type = T.boolean,
    default = true,
    desc = [[Use declarations of names near the cursor. The language server is asked
while nobody types, and never waited for.]],
  },
  {
    name = 'context.diagnostics',
    type = T.boolean,
    default = true,
    desc = [[Use errors and warnings within three lines of the cursor, as they are when
Insert mode begins.]],
  },
  {
    name = 'context.notes',
    type = T.boolean,
    default = true,
    desc = [[Use the project's notes, a file named .gemma.md: see |gemma-notes|.]],
  },
  {
    name = 'context.max_file',
    type = T.integer(0, 2 ^ 40),
    default = 2 * 1024 * 1024,
    desc = [[Buffers with more bytes than this get ghost text only when asked for, and
no piece of them is shown to the model for other files.]],
  },
  {
    name = 'filetypes',
    type = T.map(T.boolean),
    default = {
      ['*'] = true,
      help = false,
      gitrebase = false,
      ['dap-repl'] = false,
      TelescopePrompt = false,
      oil = false,
      minifiles = false,
    },
    desc = [[Where ghost text is allowed, by 'filetype'; '*' stands for all others.
Merged with the default, key by key. Of a compound one, such as
yaml.ansible, the whole name counts before its parts.]],
  },
  {
    name = 'exclude',
    type = T.additions,
    default = {
      '.env*',
      '*.pem',
      '*.key',
      'id_*',
      '*.kdbx',
      '*.gpg',
      '*.age',
      '.netrc',
      '*secret*',
      '*credential*',
      '/dev/shm/*',
    },
    desc = [[File patterns that are never completed and never read as context, added to
the default; `!pattern` takes one of the default out. `*` and `?` as in a
shell; a pattern with a slash is matched against the whole path (a `~/`
that it begins with is the home folder), one without against the file's
name, in both cases ignoring case. A link is excluded when the file is to
which it leads.]],
  },
  {
    name = 'enabled',
    type = T.any(T.boolean, T.fn),
    desc = [[false starts without ghost text, and without loading the model for it,
until `:Gemma enable`. A function is called with a buffer number before a
request; false means no ghost text there. `vim.b.gemma = false` does the
same for one buffer, and true allows it there whatever `filetypes` says.]],
  },
  {
    name = 'explain.win',
    type = T.choice('float', 'split', 'vsplit'),
    default = 'float',
    desc = [[Where answers are shown: in a float beside the lines, or in a split below
or to the right.]],
  },
  {
    name = 'explain.max_tokens',
    type = T.integer(1, 65536),
    default = 1024,
    desc = [[Longest answer, in tokens. With thinking it is twice that, thoughts
included.]],
  },
  {
    name = 'explain.thinking',
    type = T.boolean,
    default = false,
    desc = [[Whether the model thinks before it answers: better answers, and a long
wait on a CPU. `gh` in the answer window and `:Gemma think` switch it.]],
  },
  {
    name = 'explain.context_lines',
    type = T.integer(0, 1000),
    default = 30,
    desc = [[Lines around the selection that are shown to the model with it: so many on
each side, and no more than 4 kB of them.]],
  },
  {
    name = 'media.image_tokens',
    type = T.choice('auto', 70, 140, 280, 560, 1120),
    default = 'auto',
    desc = [[The most tokens one picture may take. More read small print better, and
take longer. 'auto' is what the model's files ask for: 280, or less for a
small model.]],
  },
  {
    name = 'media.max_tokens',
    type = T.integer(1, 65536),
    default = 1024,
    desc = [[Longest answer about a picture or a recording, in tokens.]],
  },
  {
    name = 'media.seconds',
    type = T.integer(1, 30),
    default = 30,
    desc = [[A recording stops by itself after this time. The model was trained on at
most 30 seconds.]],
  },
  {
    name = 'media.recorder',
    type = TOOL,
    default = 'auto',
    desc = [[What records voice: 'auto' takes the first of pw-record, parecord,
arecord, sox and ffmpeg that works; a name takes that one. A list is a
command that writes WAV, or 16-bit mono samples at 16 kHz, to its standard
output until it is interrupted.]],
  },
  {
    name = 'media.screen',
    type = TOOL,
    default = 'auto',
    desc = [[What records the screen: 'auto', 'wf-recorder' or 'ffmpeg'. A list is a
command that records until it is interrupted, with the file's name in
place of `{file}`.]],
  },
  {
    name = 'media.shot',
    type = TOOL,
    default = 'auto',
    desc = [[What takes screenshots: 'auto' takes the first of grim (with slurp), maim,
spectacle, gnome-screenshot, screencapture and PowerShell that there is; a
name takes that one. A list is a command, with the file's name in place of
`{file}`.]],
  },
  {
    name = 'media.keep',
    type = T.any(T.boolean, T.string),
    default = false,
    desc = [[Keep screenshots, recordings and pictures of the clipboard: true in
stdpath('data')/gemma/media, a string is another folder. Otherwise they
are deleted when the conversation about them is (|gemma-answer|).]],
  },
  {
    name = 'edit.diff',
    type = T.choice('inline', 'split'),
    default = 'inline',
    desc = [[How a change is shown: in the text, or in a window beside it, both in diff
mode. The keys are the same.]],
  },
  {
    name = 'edit.max_tokens',
    type = T.integer(16, 65536),
    default = 2048,
    desc = [[Longest text, in tokens, that :Gemma edit and :Gemma fix may write for the
lines of their range. The lines themselves need about as many again.]],
  },
  {
    name = 'install.url',
    type = T.string,
    default = 'https://huggingface.co',
    desc = [[Where `:Gemma install model` finds the published files: a host that has
them under OWNER/REPOSITORY/resolve/REVISION/FILE, such as a mirror.]],
  },
  {
    name = 'lsp',
    type = T.boolean,
    default = false,
    desc = [[Attach a language server without a process to the buffers where ghost text
is allowed: |gemma-lsp|. Off, since what others do on |LspAttach| would
then happen in every buffer.]],
  },
  {
    name = 'keymaps',
    type = T.boolean,
    default = true,
    desc = [[Map the Insert mode keys of |gemma-keys|, each only where it is free and
its <Plug> map is not used otherwise.]],
  },
  {
    name = 'log',
    type = T.choice('off', 'error', 'warn', 'info', 'debug', 'trace'),
    default = 'warn',
    desc = [[What goes to the log file (`:Gemma log`). Text of buffers is never logged.]],
  },
}

---@param t table
---@param name string dotted
---@return any
local function dig(t, name)
  for key in vim.gsplit(name, '.', { plain = true }) do
    if type(t) ~= 'table' then
      return nil
    end
    t = t[key]
  end
  return t
end

---@param t table
---@param name string dotted
---@param value any
local function put(t, name, value)
  local keys = vim.split(name, '.', { plain = true })
  for i = 1, #keys - 1 do
    t[keys[i]] = t[keys[i]] or {}
    t = t[keys[i]]
  end
  t[keys[#keys]] = value
end

---@return table groups names that hold options, such as "completion"
local function groups()
  local g = {}
  for _, o in ipairs(M.schema) do
    local head = o.name:match('^(.-)%.')
    if head then
      g[head] = true
    end
  end
  return g
end

--- What the user gave and the schema does not know, and what has a wrong type.
---@param user table
---@return string[] problems one line each
function M.problems(user)
  local out, known, heads = {}, {}, groups()
  for _, o in ipairs(M.schema) do
    known[o.name] = o
    local v = dig(user, o.name)
    if v ~= nil and not o.type.ok(v) then
      local shown = vim.inspect(v, { newline = ' ', indent = '' })
      out[#out + 1] = ('%s: expected %s, got %s'):format(o.name, o.type.text, shown)
    elseif v ~= nil and o.type.is_added then
      for _, e in ipairs(v) do
        if vim.startswith(e, '!') and not vim.tbl_contains(o.default, e:sub(2)) then
          out[#out + 1] = ('%s: %s is not in the default'):format(o.name, e:sub(2))
        end
      end
    end
  end
  local keys = {}
  for k, v in pairs(user) do
    if heads[k] and type(v) == 'table' then
      for sub in pairs(v) do
        keys[#keys + 1] = ('%s.%s'):format(k, sub)
      end
    elseif heads[k] then
      out[#out + 1] = ('%s: expected a table'):format(k)
    else
      keys[#keys + 1] = tostring(k)
    end
  end
  table.sort(keys)
  for _, k in ipairs(keys) do
    if not known[k] then
      out[#out + 1] = ('%s: unknown option'):format(k)
    end
  end
  return out
end

--- The default's entries that the user does not take out, and the user's own.
---@param default string[]
---@param user string[]
---@return string[]
local function add(default, user)
  local out = vim.tbl_filter(function(e)
    return not vim.tbl_contains(user, '!' .. e)
  end, default)
  for _, e in ipairs(user) do
    if not vim.startswith(e, '!') then
      out[#out + 1] = e
    end
  end
  return out
end

--- Defaults with the user's valid values laid over them. A wrong value leaves the default.
---@param user table
---@return gemma.Config
function M.merge(user)
  local conf = {}
  for _, o in ipairs(M.schema) do
    local v = dig(user, o.name)
    if v == nil or not o.type.ok(v) then
      v = vim.deepcopy(o.default)
    elseif o.type.is_map then
      v = vim.tbl_extend('force', vim.deepcopy(o.default), v)
    elseif o.type.is_added then
      v = add(o.default, v)
    end
    put(conf, o.name, v)
  end
  return conf
end

---@return table
---@return string? wrong why it is none of the user's
local function read_user()
  local user = vim.g.gemma
  if vim.is_callable(user) then
    local ok, got = pcall(user)
    if not ok then
      return {}, 'the function failed: ' .. tostring(got):match('[^\n]*')
    end
    user = got
  end
  if user ~= nil and type(user) ~= 'table' then
    return {}, 'expected a table, got ' .. type(user)
  end
  return user or {}
end

---@type gemma.Config?
local current
---@type table?
local current_user
local current_wrong ---@type string?
---@type string[]
local current_problems = {}
--- Counts every change, so that others can cache what they derive from the options.
M.version = 0

--- Every read of vim.g wraps functions anew, so that two of them count as the same.
---@param a any
---@param b any
---@return boolean
local function same(a, b)
  if type(a) ~= 'table' or type(b) ~= 'table' then
    return a == b or (vim.is_callable(a) and vim.is_callable(b))
  end
  for k, v in pairs(a) do
    if not same(v, b[k]) then
      return false
    end
  end
  for k in pairs(b) do
    if a[k] == nil then
      return false
    end
  end
  return true
end

---@param t any
---@return boolean
local function has_function(t)
  if type(t) ~= 'table' then
    return type(t) == 'function'
  end
  for _, v in pairs(t) do
    if has_function(v) then
      return true
    end
  end
  return false
end

--- Reads vim.g.gemma again, when it changed.
---@return string[] problems of the new value; empty when nothing changed
function M.reload()
  local user, wrong = read_user()
  local unchanged = current and same(user, current_user) and wrong == current_wrong
  if unchanged and not has_function(user) then
    return {} -- merging costs as much as some hundred keys
  end
  current_user, current_wrong = user, wrong
  current = M.merge(user)
  if unchanged then
    return {}
  end
  current_problems = M.problems(user)
  if wrong then
    table.insert(current_problems, 1, wrong)
  end
  M.version = M.version + 1
  return current_problems
end

--- The options in force. vim.g.gemma is read at first use, by reload() and by setup().
---@return gemma.Config
function M.get()
  if not current then
    M.reload()
  end
  return current --[[@as gemma.Config]]
end

--- What the option `filetypes` says of one. Of several that are joined by dots, as in yaml.ansible, the
--- first of which it says something.
---@param filetype string
---@return boolean
function M.takes(filetype)
  local types = M.get().filetypes
  if types[filetype] ~= nil then
    return types[filetype]
  end
  for part in filetype:gmatch('[^.]+') do
    if types[part] ~= nil then
      return types[part]
    end
  end
  return types['*'] ~= false
end

--- The same of a buffer, where b:gemma stands above the option.
---@param buf integer
---@return boolean
function M.takes_buffer(buf)
  local said = vim.b[buf].gemma
  if type(said) == 'boolean' then
    return said
  end
  return M.takes(vim.bo[buf].filetype)
end

--- Is the buffer larger than context.max_file?
---@param buf integer a loaded one
---@return boolean
function M.too_big(buf)
  local size = vim.api.nvim_buf_get_offset(buf, vim.api.nvim_buf_line_count(buf))
  return size > M.get().context.max_file
end

---@return string[]
function M.current_problems()
  M.get()
  return current_problems
end

---@param user table is not changed
---@param opts table
---@return table
local function laid_over(user, opts)
  local out, heads = vim.deepcopy(user), groups()
  for k, v in pairs(opts) do
    if type(v) == 'table' and type(out[k]) == 'table' and (heads[k] or k == 'filetypes') then
      out[k] = vim.tbl_extend('force', out[k], v)
    else
      out[k] = v
    end
  end
  return out
end

--- Merges opts into vim.g.gemma and does nothing else. A function there is still asked each time.
---@param opts table?
function M.setup(opts)
  local user = vim.g.gemma
  if type(user) == 'function' then
    vim.g.gemma = function()
      local now = user()
      return type(now) == 'table' and laid_over(now, opts or {}) or now
    end
  else
    vim.g.gemma = laid_over(type(user) == 'table' and user or {}, opts or {})
  end
  M.reload()
end

return M
