--- allow.lua: may there be ghost text here and now? If not, why, in one sentence.
---
--- From what hardly changes (switches, file, filetype) to what may change with every key. The
--- order is the one in which a user would repair things, since :Gemma status shows the first.

local config = require('gemma.config')
local engine = require('gemma.engine')
local exclude = require('gemma.exclude')
local filter = require('gemma.filter')
local notify = require('gemma.notify')
local pace = require('gemma.pace')
local popup = require('gemma.popup')

local M = {}

local api = vim.api
local line_len = require('gemma.context.text').line_len

--- What `:Gemma enable` and its kin said last; nil: the option `enabled` holds.
M.switched = nil ---@type boolean?

--- Is ghost text on?
---@return boolean
function M.is_on()
  if M.switched ~= nil then
    return M.switched
  end
  return config.get().enabled ~= false
end

--- Why this buffer gets no ghost text at all; nil when it may.
---@param buf integer
---@return string?
function M.buffer_reason(buf)
  if vim.b[buf].gemma == false then
    return 'this buffer is off (b:gemma). Run :Gemma enable buffer.'
  end
  local bo = vim.bo[buf]
  if bo.buftype ~= '' and bo.buftype ~= 'acwrite' then
    return ("this is not a file ('buftype' is %s)."):format(bo.buftype)
  elseif not config.takes_buffer(buf) then
    return ('filetype %s is off (filetypes).'):format(bo.filetype)
  end
  local excluded = exclude.reason(buf)
  if excluded then
    return excluded
  elseif not bo.modifiable then
    return "'modifiable' is off."
  end
  local enabled = config.get().enabled
  if vim.is_callable(enabled) then
    local ok, yes = pcall(enabled --[[@as function]], buf)
    if not ok then
      notify.once('enabled(): ' .. tostring(yes))
      return 'enabled() failed: ' .. tostring(yes)
    elseif yes == false then
      return 'enabled() says no.'
    end
  end
end

--- Why the engine cannot answer now.
---@return string?
local function engine_reason()
  if engine.state == 'loading' then
    local p = engine.load_progress()
    return ('the model is loading%s.'):format(p and (' (%d %%)'):format(p * 100) or '')
  elseif engine.is_loaded() then
    return nil
  elseif engine.reason then
    return engine.reason
  elseif engine.kept_out then
    return 'the model was unloaded. Run :Gemma load.'
  elseif config.get().load == 'manual' then
    return 'the model is not loaded (load is manual). Run :Gemma load.'
  end
  return 'the model is not loaded yet; the first Insert mode loads it. Or run :Gemma load.'
end

--- What may change with every key.
---@return string?
function M.moment_reason()
  if vim.o.paste then
    return "'paste' is on."
  elseif vim.fn.getcmdwintype() ~= '' then
    return 'this is the command-line window.'
  elseif api.nvim_get_mode().mode:match('^R') then
    return 'this is Replace mode, which has no room for a suggestion.'
  elseif vim.fn.reg_executing() ~= '' then
    return 'a macro is running.'
  elseif vim.fn.reg_recording() ~= '' and not config.get().completion.in_macros then
    return 'a macro is being recorded (completion.in_macros).'
  end
end

--- Is a completion menu in the way?
---@return boolean
function M.menu_hides()
  local menu = config.get().completion.menu
  if menu == true then
    return popup.visible()
  end
  return menu == 'selected' and popup.selected()
end

--- Is the text left of the cursor a comment? By treesitter or syntax, whichever draws the buffer;
--- else by 'commentstring'.
---@param buf integer
---@param row integer
---@param col integer
---@return boolean
function M.in_comment(buf, row, col)
  local at = math.max(0, col - 1)
  if vim.treesitter.highlighter.active[buf] then
    local ok, captures = pcall(vim.treesitter.get_captures_at_pos, buf, row, at)
    for _, c in ipairs(ok and captures or {}) do
      if c.capture:match('^comment') then
        return true
      end
    end
    return false
  elseif vim.bo[buf].syntax ~= '' and vim.g.syntax_on then
    for _, id in ipairs(vim.fn.synstack(row + 1, at + 1)) do
      if vim.fn.synIDattr(vim.fn.synIDtrans(id), 'name') == 'Comment' then
        return true
      end
    end
    return false
  end
  local leader = vim.trim(vim.bo[buf].commentstring:match('^(.-)%%s') or '')
  local text = api.nvim_buf_get_text(buf, row, 0, row, math.min(col, 200), {})[1]
  return leader ~= '' and vim.startswith(vim.trim(text), leader)
end

--- Why nothing comes by itself in the current buffer; nil when it may.
---@return string?
local function auto_reason()
  local why = pace.manual_reason()
  if why then
    return why
  elseif config.too_big(api.nvim_get_current_buf()) then
    return 'the buffer is large (context.max_file), so ghost text is manual.'
  end
end

--- Why nothing comes by itself where the cursor is. In Normal mode it is not where text would go.
---@return string?
local function cursor_reason()
  if not api.nvim_get_mode().mode:find('i', 1, true) then
    return nil
  end
  local conf = config.get().completion
  local buf = api.nvim_get_current_buf()
  local pos = api.nvim_win_get_cursor(0)
  local row, col = pos[1] - 1, pos[2]
  local stop = math.min(line_len(buf, row), col + 1024)
  local right = api.nvim_buf_get_text(buf, row, col, row, stop, {})[1]
  if filter.weight_after(right) > conf.max_line_suffix then
    return 'there is text to the right of the cursor (completion.max_line_suffix).'
  elseif not conf.in_comments and M.in_comment(buf, row, col) then
    return 'the cursor is in a comment (completion.in_comments).'
  end
end

--- Neovim's inline completion and ghost text would draw over each other. It is not enabled where nobody has
--- loaded its module.
---@return string?
local function native_reason()
  local inline = package.loaded['vim.lsp.inline_completion']
  local buf = api.nvim_get_current_buf()
  if not inline or not inline.is_enabled({ bufnr = buf }) then
    return nil
  end
  local method = 'textDocument/inlineCompletion'
  local client = vim.lsp.get_clients({ bufnr = buf, method = method })[1]
  if client then
    local fmt =
      "Neovim's own inline completion shows suggestions of %s here (vim.lsp.inline_completion)."
    return fmt:format(client.name)
  end
end

--- The first reason against ghost text in the current buffer; nil when there is none.
---@param manual boolean asked for by key
---@param known boolean? the text is there already: nothing is asked, and what speaks against asking does not count
---@return string?
function M.reason(manual, known)
  if not M.is_on() then
    return 'ghost text is off. Run :Gemma enable.'
  end
  return M.buffer_reason(api.nvim_get_current_buf())
    or native_reason()
    or pace.off_reason()
    or (not known and engine_reason() or nil)
    or M.moment_reason()
    or (manual and not api.nvim_get_mode().mode:match('^i') and 'this is not Insert mode.' or nil)
    or (not manual and not known and (auto_reason() or cursor_reason()) or nil)
end

return M
